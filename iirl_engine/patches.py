"""The sum of many local kernels at many states: exact, differentiable, pruned.

A kernel is 0 beyond its reach, so most pairs of a state and a kernel need no look. What is left out
is proved to be 0, in spite of rounding (`balls`); what is left is computed by differences in
float64, so that nothing cancels.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from iirl_engine.balls import BLOCK, Balls
from iirl_engine.support import power_of_two

Array = NDArray[np.float64]
Profile = Literal["wendland", "gaussian"]

# Where a kernel ends, in radii. A Gaussian is cut where exp(-r^2 / 2) falls below 1e-12.
REACH: dict[Profile, float] = {"wendland": 1.0, "gaussian": 7.434}

# Up to so many pairs of a state and a kernel, ruling out takes longer than looking.
_FEW = 2**13
# So many numbers are held at a time, and so many states at most.
_TILE, _STATES = 2**20, 2**15
# Where a larger share of a tile is left, all of it is computed: that needs no gathering.
_CROWDED = 1 / 8


def profile_at(r: Tensor, profile: Profile) -> Tensor:
    """Return φ at distances in radii; φ(0) = 1.

    `wendland` is (1 - r)^4 (4 r + 1) below 1 and 0 beyond (Wendland 1995, C2); `gaussian` is
    exp(-r^2 / 2) below `REACH` and 0 beyond, where it is less than 1e-12.
    """
    if profile == "gaussian":
        return torch.where(r < REACH[profile], torch.exp(r * r / -2), 0.0)
    rest = (1 - r).clamp(min=0)
    squared = rest * rest
    return squared * squared * (4 * r.clamp(max=1) + 1)


def steepness_at(r: Tensor, profile: Profile) -> Tensor:
    """Return φ'(r) / r, which has a value at 0, too."""
    if profile == "gaussian":
        return -profile_at(r, profile)
    rest = (1 - r).clamp(min=0)
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
        return profile_at(_apart(states / self._unit, centers) / radii, self._profile)

    def sum(self, states: Tensor) -> Tensor:
        """Return the sum over the kernels at float64 `states [n, d]`, `[n]`; differentiable once.

        A NaN in a state makes its sum NaN.
        """
        if torch.compiler.is_compiling():
            # A traced program is a fixed sequence of operations, whatever the states.
            return self.values(states) @ torch.from_numpy(self._strengths)
        total: Tensor = _Sum.apply(states, self)  # type: ignore[no-untyped-call]
        return total

    def sum_and_gradient(self, states: Tensor, steep: bool) -> tuple[Tensor, Tensor | None]:
        """Return the sum `[n]` at `states [n, d]` and, if `steep`, its gradient `[n, d]`."""
        scaled = states.detach() / self._unit
        value = torch.zeros(len(states), dtype=torch.float64)
        gradient = torch.zeros_like(scaled) if steep else None
        if self.count == 0:
            return value, gradient
        add = self._add_all if len(states) * self.count <= _FEW else self._add_near
        blocks = -(-self.count // BLOCK)
        rows = max(1, min(_STATES, 8 * _TILE // blocks, 8 * _TILE // states.shape[1]))
        for first in range(0, len(states), rows):
            part = slice(first, first + rows)
            add(scaled[part], value[part], None if gradient is None else gradient[part])
        if math.isnan(scaled.sum()) and (unknown := scaled.isnan().any(dim=1)).any():
            for result in (value, gradient):
                if result is not None:
                    result[unknown] = torch.nan
        return value, None if gradient is None else gradient / self._unit

    def _add_all(self, states: Tensor, value: Tensor, gradient: Tensor | None) -> None:
        """Add every kernel to the sums `[n]` and gradients `[n, d]` of `states [n, d]`."""
        centers, radii, _ = self._ordered
        r = _apart(states, centers) / radii
        row, kernel = _pairs(r.numpy() < REACH[self._profile])
        r = r[row, kernel]
        self._add_values(row, kernel, r, value)
        if gradient is not None:
            for first in range(0, self.count, BLOCK):
                of = ((kernel >= first) & (kernel < first + BLOCK)).nonzero()[:, 0]
                self._add_gradients(states, row[of], kernel[of], r[of], first, gradient)

    def _add_near(self, states: Tensor, value: Tensor, gradient: Tensor | None) -> None:
        """Do the same by block, for those pairs that are not ruled out."""
        reach = REACH[self._profile]
        centers, radii, _ = self._ordered
        for first, rows, near in self._balls.candidates(states):
            local, column = _pairs(near)
            if not len(local):
                continue
            if len(local) > _CROWDED * near.size:
                block = slice(first, first + near.shape[1])
                apart = _apart(states.index_select(0, rows), centers[block]) / radii[block]
                local, column = _pairs(apart.numpy() < reach)
                r = apart[local, column]
                row, kernel = rows.index_select(0, local), column + first
            else:
                row, kernel = rows.index_select(0, local), column + first
                r = self._distances(states, row, kernel)
            self._add_values(row, kernel, r, value)
            if gradient is not None:
                self._add_gradients(states, row, kernel, r, first, gradient)

    def _distances(self, states: Tensor, row: Tensor, kernel: Tensor) -> Tensor:
        """Return the distances `[p]` of pairs, in radii."""
        centers, radii, _ = self._ordered
        size = max(1, _TILE // states.shape[1])
        apart = [
            _apart(states.index_select(0, a)[:, None], centers.index_select(0, b)[:, None])
            for a, b in zip(torch.split(row, size), torch.split(kernel, size), strict=True)
        ]
        return torch.cat(apart)[:, 0, 0] / radii.index_select(0, kernel)

    def _add_values(self, row: Tensor, kernel: Tensor, r: Tensor, value: Tensor) -> None:
        # One after the other, and each row's in the order of kernels.
        strengths = self._ordered[2].index_select(0, kernel)
        value.index_add_(0, row, profile_at(r, self._profile) * strengths)

    def _add_gradients(
        self, states: Tensor, row: Tensor, kernel: Tensor, r: Tensor, first: int, gradient: Tensor
    ) -> None:
        """Add the gradients of pairs with one block's kernels, in ascending order of rows.

        With w = strength φ'(r) / (r radius^2) it is the sum of w (s - center); places are taken
        from the block's own first center, so that nothing cancels that is not as close.
        """
        centers, radii, strengths = self._ordered
        width = radii.index_select(0, kernel)
        weight = steepness_at(r, self._profile) * strengths.index_select(0, kernel) / width / width
        some = (weight != 0).nonzero()[:, 0]
        if not len(some):
            return
        rows, counts = torch.unique_consecutive(row.index_select(0, some), return_counts=True)
        ends = np.concatenate([[0], counts.cumsum(0).numpy()])
        columns = (kernel.index_select(0, some) - first).numpy()
        block = centers[first : first + BLOCK] - centers[first]
        weights = sparse.csr_array(
            (weight.index_select(0, some).numpy(), columns, ends), shape=(len(rows), len(block))
        )
        total = torch.from_numpy(weights @ np.ones(len(block)))
        pull = torch.from_numpy(weights @ block.numpy())
        place = states.index_select(0, rows) - centers[first]
        gradient[rows] += total[:, None] * place - pull


def _pairs(near: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Return the numbers of rows and of columns where `near [n, k]` is true, row by row."""
    # NumPy is several times as fast as torch where few are.
    row, column = np.divmod(np.flatnonzero(near), near.shape[1])
    return torch.from_numpy(row), torch.from_numpy(column)


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
