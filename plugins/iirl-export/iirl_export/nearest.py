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

    def _neighbours(self, scaled: Tensor, k: int) -> Tensor:
        """Shortlist by |p|^2 - 2qp, which rounds, then order exactly."""
        centre = self._points.mean(dim=0)
        points, queries = self._points - centre, scaled - centre
        squared = points.square().sum(dim=1) - 2 * queries @ points.T
        shortlist = squared.topk(min(k + _SPARE, len(points)), largest=False).indices
        apart = torch.linalg.vector_norm(scaled[:, None] - self._points[shortlist], dim=2)
        return shortlist.gather(1, apart.topk(k, largest=False).indices)


def treeless(part: P) -> P:
    """Return a copy of an encoder or norm whose attributes hold no kd-tree."""
    changed = copy.copy(part)
    for name, value in vars(part).items():
        if type(value) is Support:
            setattr(changed, name, Treeless(value.states))
    return changed
