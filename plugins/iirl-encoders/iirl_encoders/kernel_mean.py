"""Expertness as kernel density: how many expert states are how near.

With Gaussian kernels κ_j of J widths w_j on standardised features,

    k_j(s) = Σ_i β_i κ_j(s, s_i) / Σ_i β_i,      k(s) = Σ_j k_j(s) / max k_j / J,
    L(s) = -log k(s), at least 0,

where max k_j is the largest k_j among expert states. A wide kernel alone endorses what lies between
expert states, such as the middle of a gait, and a narrow one says nothing away from them; divided
by its largest value, each counts the same. It is eq. 2 without negatives: among functions in a ball
of the kernel's Hilbert space, k has the highest mean over the experts (Gretton et al., "A kernel
two-sample test", JMLR 2012, section 2.2), and it vanishes away from them.

Mapping `exp` with `l_min = 0, l_max = 1, steepness = p` makes the reward k^p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from iirl_encoders import kernels
from iirl_encoders.options import KernelMeanOptions
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, Demonstrations, Encoder


class KernelMean(Encoder[KernelMeanOptions]):
    """Keeps expert states as they are and learns nothing else but a scale and a width.

    Everything drawn at random follows from one number that a release keeps, so that unlearning is
    the fit on the rest itself. Extending keeps scale and widths and changes the centers.
    """

    abilities = Abilities(unlearning=True, incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        self._learn(demonstrations, int(context.generator().integers(2**63)))

    def unlearn(self, rest: Demonstrations) -> None:
        self._learn(rest, self._seed)

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        self._centers = self._drawn_centers(demonstrations)
        self._estimate(None if self._fourier is None else self._fourier.frequencies)
        self._settle()

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        relative = self._log_means(scaled) - self._peaks
        return Code(scaled, -_log_average(relative).clamp(max=0))

    def uncertainty(self, states: Tensor) -> Tensor | None:
        """Return the standard error of k relative to k: 1 / sqrt(number of experts behind it).

        That number is n times the mean of the k_j(s), for n experts; where their weights differ,
        for as many equal ones. None with random features, whose own error hides how few experts
        are near.
        """
        if self._fourier is not None:
            return None
        density = _log_average(self._log_means(self._scale(states)))
        return kernels.doubt(self._centers.log_number + density)

    def tensors(self) -> dict[str, Tensor]:
        fourier = self._fourier
        return {
            "center": self._scale.center,
            "spread": self._scale.spread,
            "seed": torch.tensor([self._seed]),
            "rows": self._rows,
            "weights": self._centers.weights,
            "widths": self._widths,
            "peaks": self._peaks,
            **({} if fourier is None else {"frequencies": fourier.frequencies}),
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._seed = int(tensors["seed"])
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._rows = tensors["rows"]
        states = self._scale(torch.tensor(demonstrations.states)[self._rows])
        self._centers = kernels.Centers(states, tensors["weights"])
        self._widths, self._peaks = tensors["widths"], tensors["peaks"]
        self._estimate(tensors.get("frequencies"))

    def _learn(self, demonstrations: Demonstrations, seed: int) -> None:
        self._seed = seed
        states = torch.tensor(demonstrations.states)
        width = states.shape[1]
        self._scale = Scale.standard(states) if self.options.standardize else Scale.identity(width)
        self._centers = self._drawn_centers(demonstrations)
        typical = kernels.typical_distance(self._centers.states)
        self._widths = typical * torch.tensor(self.options.widths, dtype=torch.float64)
        if self.options.select == "held-out":
            held_out = self._scale(torch.tensor(demonstrations.held_out))
            self._widths = self._widths[[self._likeliest(held_out)]]
        frequencies = None
        if self.options.features:
            frequencies = kernels.drawn_frequencies(
                self.options.features, width, self._widths, np.random.default_rng([seed, 1])
            )
        self._estimate(frequencies)
        self._settle()

    def _drawn_centers(self, demonstrations: Demonstrations) -> kernels.Centers:
        states, generator = demonstrations.states, np.random.default_rng(self._seed)
        self._rows, shares = kernels.drawn_rows(
            demonstrations.weights, len(states), self.options.centers, generator
        )
        return kernels.Centers(self._scale(torch.tensor(states)[self._rows]), shares)

    def _likeliest(self, held_out: Tensor) -> int:
        """Return which width gives held-out states the highest density, as k / w^d.

        Without held-out states a fifth of the centers, which are in random order, stands in.
        """
        centers = self._centers
        if len(held_out) == 0:
            out = math.ceil(len(centers) / 5)
            if len(centers) == out:
                return 0
            held_out = centers.states[:out]
            centers = kernels.Centers(
                centers.states[out:], centers.weights[out:] / centers.weights[out:].sum()
            )
        volume = held_out.shape[1] * self._widths.log()
        density = centers.log_means(held_out, self._widths).mean(dim=0) - volume
        return int(density.argmax())

    def _estimate(self, frequencies: Tensor | None) -> None:
        """Estimate the kernel means of the centers with these frequencies, if there are any."""
        self._fourier = None
        if frequencies is not None:
            count = len(self._widths)
            self._fourier = kernels.FourierMean.of(self._centers, frequencies, count)

    def _settle(self) -> None:
        """Look up the highest k_j of the centers."""
        self._peaks = self._log_means(self._centers.states).amax(dim=0)

    def _log_means(self, scaled: Tensor) -> Tensor:
        if self._fourier is not None:
            return self._fourier.log_means(scaled)
        return self._centers.log_means(scaled, self._widths)


def _log_average(logs: Tensor) -> Tensor:
    """Return the logarithm `[n]` of the mean of numbers whose logarithms are `[n, j]`."""
    return torch.logsumexp(logs, dim=1) - math.log(logs.shape[1])
