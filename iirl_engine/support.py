"""How far states are from the expert states: exact, differentiable, at any scale.

Approximate indexes overestimate the distance of states far from support, so none backs this.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.neighbours import Neighbours

Array = NDArray[np.float64]

# Coordinates beyond this many units are cut, so that no square overflows.
_FARTHEST = 1e150
# Features whose middle is this many units from 0 are measured from there.
_FAR = 1e6
# Expert states whose distance to the next one tells how far apart they may lie.
_LOOKED_AT = 512


class Support:
    """The expert states, indexed for exact nearest-neighbour distance.

    Parameters
    ----------
    states
        `[n, d]` finite expert states, n >= 1.
    """

    def __init__(self, states: Array) -> None:
        self.states = states
        low, high = states.min(axis=0), states.max(axis=0)
        # A power of two: scaling by it changes no distance, and squares stay in range.
        self._unit = power_of_two(float((high / 2 - low / 2).max()) or float(np.abs(states).max()))
        # A feature far from 0 and nearly constant is measured from its middle.
        middle = low / 2 + high / 2
        far = np.abs(middle) / self._unit > _FAR
        self._center = torch.tensor(np.where(far, middle, 0.0))
        self._points = self._scaled(torch.tensor(states))

    def distance(self, states: Tensor) -> Tensor:
        """Return the Euclidean distance `[n]` to the nearest expert state, differentiable."""
        return self.nearest(states)[0]

    def nearest(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return distance `[n]` and row number `[n]` of the expert state nearest to each state."""
        scaled = self._scaled(states)
        index = self._neighbours.find(scaled.detach(), 1)[:, 0]
        apart = torch.linalg.vector_norm(scaled - self._points[index], dim=1)
        return apart * self._unit, index

    def neighbours(self, states: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances `[n, k]`, ascending, and row numbers `[n, k]` of the k nearest."""
        scaled = self._scaled(states)
        index = self._neighbours.find(scaled.detach(), k)
        apart = torch.linalg.vector_norm(scaled[:, None] - self._points[index], dim=2)
        return apart * self._unit, index

    @functools.cached_property
    def spacing(self) -> Tensor:
        """`[n]` distance of each expert state to the nearest other one; Inf when it is alone."""
        if len(self.states) == 1:
            return torch.full((1,), torch.inf, dtype=torch.float64)
        index = self._neighbours.find(self._points, 2)
        rows = torch.arange(len(index))
        other = torch.where(index[:, 0] == rows, index[:, 1], index[:, 0])
        apart: Tensor = torch.linalg.vector_norm(self._points - self._points[other], dim=1)
        return apart * self._unit

    @functools.cached_property
    def gap(self) -> float:
        """Largest distance from an expert state to the next, of 512 spread over all; 0 if alone."""
        if len(self.states) == 1:
            return 0.0
        rows = np.unique(np.linspace(0, len(self.states) - 1, _LOOKED_AT).astype(int))
        return float(self.neighbours(torch.tensor(self.states[rows]), 2)[0][:, 1].max())

    def _scaled(self, states: Tensor) -> Tensor:
        scaled = states / self._unit - self._center / self._unit
        return scaled.clamp(-_FARTHEST, _FARTHEST)

    @functools.cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self._points)


def power_of_two(size: float) -> float:
    """Return the power of two just above `size`; 1 for 0."""
    if size == 0:
        return 1.0
    return float(2.0 ** np.clip(np.frexp(size)[1], -1021, 1023))
