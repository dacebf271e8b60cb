"""Distances to the expert states as tensor operations alone.

The engine asks a kd-tree, which cannot be traced. Matrix products find the same states, at the
price of memory for one number per state and expert state.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor

from iirl_engine.support import Support

P = TypeVar("P")

# Candidates per neighbour sought beyond those asked for: the shortlist's distances are rounded.
_SPARE = 3


class Treeless(Support):
    """The expert states, searched by matrix products."""

    @property
    def _neighbours(self) -> Products:  # type: ignore[override]
        return Products(self._points)


class Products:
    """The nearest of some points by matrix products, in one expression.

    Parameters
    ----------
    points
        `[n, d]`.
    """

    def __init__(self, points: Tensor) -> None:
        self._points = points

    def find(self, queries: Tensor, k: int) -> Tensor:
        """Return the row numbers `[m, k]` of the k points nearest to `queries [m, d]`.

        Shortlisted by |p|^2 - 2qp, which rounds, then ordered exactly.
        """
        centre = self._points.mean(dim=0)
        points, centred = self._points - centre, queries - centre
        squared = points.square().sum(dim=1) - 2 * centred @ points.T
        shortlist = squared.topk(min(k + _SPARE, len(points)), largest=False).indices
        apart = torch.linalg.vector_norm(queries[:, None] - self._points[shortlist], dim=2)
        return shortlist.gather(1, apart.topk(k, largest=False).indices)


def treeless(part: P) -> P:
    """Return a copy of an encoder or norm whose attributes hold no kd-tree."""
    changed = copy.copy(part)
    for name, value in vars(part).items():
        if type(value) is Support:
            setattr(changed, name, Treeless(value.states))
    return changed
