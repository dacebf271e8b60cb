"""The sum of many local kernels at many states: exact, differentiable, pruned.

A kernel is 0 beyond its reach, so most pairs of a state and a kernel need no look. What is left out
is proved to be 0, in spite of rounding (`balls`); what is left is computed by differences in
float64, so that nothing cancels.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from iirl_engine.balls import BLOCK, Balls
from iirl_engine.support import power_of_two

Array = NDArray[np.float64]
Profile = Literal["wendland", "gaussian"]
Numbers = NDArray[np.int64]
N = TypeVar("N", Tensor, Array)

# Where a kernel ends, in radii. A Gaussian is cut where exp(-r^2 / 2) falls below 1e-12.
REACH: dict[Profile, float] = {"wendland": 1.0, "gaussian": 7.434}

# Up to so many pairs of a state and a kernel, ruling out takes longer than looking.
_FEW = 2**14
# So many numbers are held at a time, and so many states at most.
_TILE, _STATES = 2**20, 2**15
# Where a larger share of a tile is left, all of it is computed: that needs no gathering.
_CROWDED = 1 / 8


def profile_at(r: N, profile: Profile) -> N:
    """Return φ at distances in radii, from 0 to `REACH`; φ(0) = 1.

    `wendland` is (1 - r)^4 (4 r + 1) below 1 and 0 beyond (Wendland 1995, C2); `gaussian` is
    exp(-r^2 / 2) below `REACH` and 0 beyond, where it is less than 1e-12.
    """
    if profile == "gaussian":
        return torch.exp(r * r / -2) if isinstance(r, Tensor) else np.exp(r * r / -2)
    rest = (1 - r) * (1 - r)
    return rest * rest * (4 * r + 1)


def steepness_at(r: Array, profile: Profile) -> Array:
    """Return φ'(r) / r, which has a value at 0, too."""
    if profile == "gaussian":
        return -profile_at(r, profile)
    rest = 1 - r
    return -20 * (rest * rest * rest)


def _apart(states: Tensor, centers: Tensor) -> Tensor:
    """Return distances `[..., n, k]`, each the same to the last bit in whatever company."""
    return torch.cdist(states, centers, compute_mode="donot_use_mm_for_euclid_dist")


class LocalKernels:
    """Local kernels, indexed for the sum over j of strength_j φ(|s - center_j| / radius_j).

    A state's sum and gradient do not depend on the other states asked about, bit for bit.

    Parameters
    ----------
    centers
        `[k, d]`, finite.
    radii
        `[k]`, > 0.
    strengths
        `[k]`, of either sign.
    profile
        See `profile_at`.
    """

    def __init__(self, centers: Array, radii: Array, strengths: Array, profile: Profile) -> None:
        self._profile: Profile = profile
        # A power of two: dividing by it changes no digit, and squares stay in range.
        self._unit = power_of_two(float(np.abs(centers).max(initial=0.0)))
        self._scaled = centers / self._unit, radii / self._unit
        self._strengths = np.array(strengths)

    @property
    def count(self) -> int:
        """The number k of kernels."""
        return len(self._strengths)

    @functools.cached_property
    def _balls(self) -> Balls:
        return Balls(self._scaled[0], REACH[self._profile] * self._scaled[1])

    @functools.cached_property
    def _ordered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Centers, radii and strengths, with those that lie together side by side."""
        # One block needs no order.
        order = self._balls.order if self.count > BLOCK else np.arange(self.count)
        parts = (*self._scaled, self._strengths)
        centers, radii, strengths = (torch.from_numpy(part[order]) for part in parts)
        return centers, radii, strengths

    def values(self, states: Tensor) -> Tensor:
        """Return φ of each of the `states [n, d]` and kernels, `[n, k]`, by the formula alone."""
        centers, radii = (torch.from_numpy(part) for part in self._scaled)
        r = _apart(states / self._unit, centers) / radii
        reach = REACH[self._profile]
        return torch.where(r < reach, profile_at(r.clamp(max=reach), self._profile), 0.0)

    def sum(self, states: Tensor) -> Tensor:
        """Return the sum over the kernels at float64 `states [n, d]`, `[n]`; differentiable once.

        A NaN in a state makes its sum NaN.
        """
        if torch.compiler.is_compiling():
            # A traced program is a fixed sequence of operations, whatever the states.
            return self.values(states) @ torch.from_numpy(self._strengths)
        if not (states.requires_grad and torch.is_grad_enabled()):
            return self.sum_and_gradient(states, False)[0]
        total: Tensor = _Sum.apply(states, self)  # type: ignore[no-untyped-call]
        return total

    def sum_and_gradient(self, states: Tensor, steep: bool) -> tuple[Tensor, Tensor | None]:
        """Return the sum `[n]` at `states [n, d]` and, if `steep`, its gradient `[n, d]`."""
        scaled = states.detach() / self._unit
        value = torch.zeros(len(states), dtype=torch.float64)
        gradient = torch.zeros_like(scaled) if steep else None
        if self.count == 0:
            return value, gradient
        if len(states) * self.count <= _FEW:
            self._add_few(scaled, value, gradient)
        else:
            blocks = -(-self.count // BLOCK)
            rows = max(1, min(_STATES, 8 * _TILE // blocks, 8 * _TILE // states.shape[1]))
            for first in range(0, len(states), rows):
                part = slice(first, first + rows)
                steepest = None if gradient is None else gradient[part]
                self._add_near(scaled[part], value[part], steepest)
        if math.isnan(float(scaled.sum())) and (unknown := scaled.isnan().any(dim=1)).any():
            for result in (value, gradient):
                if result is not None:
                    result[unknown] = torch.nan
        return value, None if gradient is None else gradient / self._unit

    @functools.cached_property
    def _cuts(self) -> tuple[float, Array, Array]:
        """What the product of a state and a center has to exceed where the kernel reaches it.

        That is |s|^2 times the first number plus the second, `[k]`; the third are the centers as
        columns. For |s - c|^2 < reach^2, and a product of d numbers in float64 is wrong by at most
        d u (|s|^2 + |c|^2) / 2.
        """
        centers, radii, _ = (part.numpy() for part in self._ordered)
        kept = 1 - 8 * (centers.shape[1] + 8) * 2.0**-53
        reach = REACH[self._profile] * radii * (1 + 1e-9)
        return kept / 2, (kept * np.square(centers).sum(axis=1) - np.square(reach)) / 2, centers.T

    def _add_few(self, states: Tensor, value: Tensor, gradient: Tensor | None) -> None:
        """Add the kernels to the sums `[n]` and gradients `[n, d]` of a few `states [n, d]`."""
        kept, cuts, columns = self._cuts
        asked = states.numpy()
        # What is far out may overflow: it compares as out of reach, or is looked at.
        with np.errstate(over="ignore", invalid="ignore"):
            square = np.square(asked).sum(axis=1, keepdims=True)
            near = asked @ columns >= kept * square + cuts
        row, kernel = _pairs(near)
        if not len(row):
            return
        row, kernel, r = self._within_reach(states, row, kernel)
        self._add_values(row, kernel, r, value)
        if gradient is not None:
            for first in (BLOCK * np.unique(kernel // BLOCK)).tolist():
                of = (kernel >= first) & (kernel < first + BLOCK)
                self._add_gradients(states, row[of], kernel[of], r[of], first, gradient)

    def _add_near(self, states: Tensor, value: Tensor, gradient: Tensor | None) -> None:
        """Do the same for many, by block."""
        centers, radii, _ = self._ordered
        for first, rows, near in self._balls.candidates(states):
            row, kernel = _pairs(near)
            if not len(row):
                continue
            if len(row) > _CROWDED * near.size:
                block = slice(first, first + near.shape[1])
                apart = _apart(states.index_select(0, rows), centers[block]) / radii[block]
                row, kernel = _pairs(apart.numpy() < REACH[self._profile])
                r = apart.numpy()[row, kernel]
                row, kernel = rows.numpy()[row], kernel + first
            else:
                row, kernel = rows.numpy()[row], kernel + first
                row, kernel, r = self._within_reach(states, row, kernel)
            self._add_values(row, kernel, r, value)
            if gradient is not None:
                self._add_gradients(states, row, kernel, r, first, gradient)

    def _within_reach(
        self, states: Tensor, row: Numbers, kernel: Numbers
    ) -> tuple[Numbers, Numbers, Array]:
        """Return the pairs whose kernel reaches the state, with their distances in radii, `[p]`."""
        centers, radii, _ = self._ordered
        if len(states) == 1:
            apart = _apart(states, centers.index_select(0, torch.from_numpy(kernel))).numpy()[0]
        else:
            apart = self._pairwise(states, row, kernel)
        r = apart / radii.numpy()[kernel]
        near = r < REACH[self._profile]
        return row[near], kernel[near], r[near]

    def _pairwise(self, states: Tensor, row: Numbers, kernel: Numbers) -> Array:
        """Return the distance of each pair, `[p]`."""
        centers = self._ordered[0]
        apart = np.empty(len(row))
        for first in range(0, len(row), size := max(1, _TILE // states.shape[1])):
            part = slice(first, first + size)
            left = states.index_select(0, torch.from_numpy(row[part]))
            right = centers.index_select(0, torch.from_numpy(kernel[part]))
            apart[part] = _apart(left[:, None], right[:, None]).numpy()[:, 0, 0]
        return apart

    def _add_values(self, row: Numbers, kernel: Numbers, r: Array, value: Tensor) -> None:
        # One after the other, and each row's in the order of kernels.
        added = profile_at(r, self._profile) * self._ordered[2].numpy()[kernel]
        value.index_add_(0, torch.from_numpy(row), torch.from_numpy(added))

    def _add_gradients(
        self, states: Tensor, row: Numbers, kernel: Numbers, r: Array, first: int, gradient: Tensor
    ) -> None:
        """Add the gradients of pairs with one block's kernels, in ascending order of rows.

        With w = strength φ'(r) / (r radius^2) it is the sum of w (s - center); places are taken
        from the block's own first center, so that nothing cancels that is not as close.
        """
        centers, radii, strengths = self._ordered
        width = radii.numpy()[kernel]
        weight = steepness_at(r, self._profile) * strengths.numpy()[kernel] / width / width
        rows, starts = np.unique(row, return_index=True)
        block = (centers[first : first + BLOCK] - centers[first]).numpy()
        ends = np.append(starts, len(row))
        weights = sparse.csr_array((weight, kernel - first, ends), shape=(len(rows), len(block)))
        total, pull = (torch.from_numpy(weights @ of) for of in (np.ones(len(block)), block))
        chosen = torch.from_numpy(rows)
        place = states.index_select(0, chosen) - centers[first]
        gradient[chosen] += total[:, None] * place - pull


def _pairs(near: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return the numbers of rows and of columns where `near [n, k]` is true, row by row."""
    # NumPy is several times as fast as torch where few are.
    row, column = np.divmod(np.flatnonzero(near), near.shape[1])
    return row, column


class _Sum(torch.autograd.Function):
    """The sum of kernels; its gradient is found with it, so that what is ruled out is so once."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, kernels: LocalKernels) -> Tensor:
        value, gradient = kernels.sum_and_gradient(states, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[:, None] * gradient, None
