"""Logarithms of weighted means of Gaussian kernels exp(-|x - c|^2 / (2 w^2)) over centers c.

Logarithms, because far from every center a kernel mean underflows while its logarithm still says
how far: -log k(x) grows with the squared distance to the nearest center.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Numbers in one tile of a matrix of states by centers, so that a few tiles fit into a cache.
_TILE = 2**16
# Numbers of such a matrix that are kept for a gradient.
_KEPT = 2**23
# States whose pairwise distances tell the typical one.
_PAIRED = 2000
_LEAST_DISTANCE = 1e-100
# What an estimate by random features is cut at, before its logarithm.
_LEAST_MEAN = 1e-12


@attrs.frozen(eq=False)
class Centers:
    """States that kernels are centred on, and the share of each in the mean.

    Parameters
    ----------
    states
        `[m, d]`.
    weights
        `[m]` above 0; their sum is 1.
    """

    states: Tensor
    weights: Tensor
    _middle: Tensor = attrs.field(init=False)
    _points: Tensor = attrs.field(init=False)
    _squares: Tensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Measure from the middle, where squared distances round least."""
        middle = self.states.mean(dim=0)
        points = self.states - middle
        object.__setattr__(self, "_middle", middle)
        object.__setattr__(self, "_points", points)
        object.__setattr__(self, "_squares", points.square().sum(dim=1))

    def __len__(self) -> int:
        return len(self.states)

    @property
    def log_number(self) -> Tensor:
        """Logarithm `[]` of the number of centers, of equal ones when weights differ (Kish)."""
        return -self.weights.square().sum().log()

    def log_means(self, states: Tensor, widths: Tensor) -> Tensor:
        """Return the logarithm of Σ_i weight_i exp(-|x - c_i|^2 / (2 w_j^2)), `[n, j]`.

        Exact, finite and differentiable however far a state is; memory does not grow with the
        number of states.

        Parameters
        ----------
        states
            `[n, d]` float64.
        widths
            `[j]` above 0, in units of the states.
        """

        def tile(some: Tensor) -> Tensor:
            moved = some - self._middle
            # Squared distances less |x|^2, which is the same for every center.
            apart = torch.addmm(self._squares[None, :], moved, self._points.T, alpha=-2)
            least = apart.detach().amin(dim=1, keepdim=True)
            nearest = least[:, 0] + moved.square().sum(dim=1)
            beyond, logs = apart - least, []
            for width in widths.tolist():
                rate = -0.5 / width**2
                terms = (beyond * rate).exp_()
                logs.append(torch.log(terms @ self.weights) + rate * nearest)
            return torch.stack(logs, dim=1)

        return _in_tiles(tile, states, len(self))


@attrs.frozen(eq=False)
class FourierMean:
    """An estimate of a kernel mean that does not cost more with more centers.

    A Gaussian kernel is the expectation of cos(ω·(x - c)) over Gaussian ω (Rahimi and Recht,
    "Random features for large-scale kernel machines", NeurIPS 2007). The mean over F frequencies
    errs by about 1 / sqrt(2 F) in units of the kernel, near the centers and far from them.

    Parameters
    ----------
    frequencies
        `[f, d]`, the ω.
    shares
        `[f, j]`: the share of a frequency in the estimate for a width; each column adds to 1.
    waves
        `[2, f]`: mean over centers of cos(ω·c), and of sin(ω·c).
    """

    frequencies: Tensor
    shares: Tensor
    waves: Tensor

    @classmethod
    def of(cls, centers: Centers, frequencies: Tensor, widths: int) -> FourierMean:
        """Return the estimate for some centers and so many widths."""

        def tile(some: Tensor) -> Tensor:
            angles = frequencies @ some.T
            return torch.stack([angles.cos(), angles.sin()])

        most = max(1, _TILE // len(frequencies))
        waves = torch.zeros(2, len(frequencies), dtype=torch.float64)
        parts = torch.split(centers.states, most), torch.split(centers.weights, most)
        for states, weights in zip(*parts, strict=True):
            waves += tile(states) @ weights
        turns = _turns(*frequencies.shape, widths)
        shares = torch.nn.functional.one_hot(turns, widths).to(torch.float64)
        return cls(frequencies, shares / shares.sum(dim=0), waves)

    def log_means(self, states: Tensor) -> Tensor:
        """Return the logarithms of the estimates `[n, j]`, cut at 1e-12, of `states [n, d]`."""
        by_cosine, by_sine = self.waves[:, :, None] * self.shares

        def tile(some: Tensor) -> Tensor:
            angles = some @ self.frequencies.T
            return angles.cos() @ by_cosine + angles.sin() @ by_sine

        means = _in_tiles(tile, states, len(self.frequencies))
        return means.clamp(min=_LEAST_MEAN).log()


def drawn_frequencies(
    count: int, width: int, scales: Tensor, generator: np.random.Generator
) -> Tensor:
    """Return `[count, width]` frequencies of Gaussian kernels of widths `scales`, in turns.

    Those of one kernel are orthogonal to one another, block by block, which lessens the error
    (Yu et al., "Orthogonal random features", NeurIPS 2016). There are as many as scales at least.
    """
    blocks = []
    for _ in range(math.ceil(count / width)):
        directions, _ = np.linalg.qr(generator.standard_normal((width, width)))
        lengths = np.sqrt(generator.chisquare(width, size=(width, 1)))
        blocks.append(directions * lengths)
    frequencies = torch.tensor(np.concatenate(blocks)[:count])
    return frequencies / scales[_turns(count, width, len(scales)), None]


def _turns(count: int, width: int, scales: int) -> Tensor:
    """Return `[count]`, the scale of each frequency: block by block where each gets a block."""
    block = width if count >= width * scales else 1
    return torch.arange(count) // block % scales


def drawn_rows(
    weights: NDArray[np.float64] | None, count: int, most: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return at most `most` of `count` rows in random order, and their shares, which add to 1.

    Rows of weight 0 are left out; None stands for weights of 1. The stream gives every row a
    priority in turn, so that rows added at the end change nothing about the order of the others.
    """
    strength = np.ones(count) if weights is None else weights
    order = generator.random(count).argsort(kind="stable")
    rows = order[strength[order] > 0][:most]
    shares = strength[rows] / strength[rows].sum()
    return torch.from_numpy(rows), torch.from_numpy(shares)


def typical_distance(*groups: Tensor) -> float:
    """Return the median distance between different states of groups `[n, d]` in random order.

    Up to 2,000 states are compared, as many of each group as there are; without two that
    differ it is that of standardised independent features, sqrt(2 d).
    """
    each = _PAIRED // len(groups)
    apart = torch.pdist(torch.cat([group[:each] for group in groups]))
    apart = apart[apart > 0]
    if len(apart) == 0:
        return math.sqrt(2 * groups[0].shape[1])
    return max(float(apart.median()), _LEAST_DISTANCE)


def doubt(log_count: Tensor) -> Tensor:
    """Return the relative standard error of a count, 1 / sqrt(count), from its logarithm `[n]`.

    For n equal weights n k(x) counts the centers near x; the standard error of a mean k of n
    numbers from 0 to 1 is at most sqrt(k / n). Cut at exp(300), which is finite.
    """
    return torch.exp((-0.5 * log_count).clamp(max=300))


def _in_tiles(function: Callable[[Tensor], Tensor], states: Tensor, columns: int) -> Tensor:
    """Apply a function of states that needs so many numbers for each, some states at a time.

    Where a gradient is asked for and they are many, what a tile computed is computed again
    rather than kept.
    """
    tiles = torch.split(states, max(1, _TILE // columns))
    if states.requires_grad and torch.is_grad_enabled() and len(states) * columns > _KEPT:
        again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(function, tile) for tile in tiles])
    return torch.cat([function(tile) for tile in tiles])
