"""Which of many states to report: as many as possible that lie apart from each other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.target import Target

# How many of the gaps between expert states, and what share of the domain's diagonal, states may
# lie apart and still be one flaw.
_SPACINGS = 3.0
_SHARE = 0.05
# Beyond this many states, near twins are dropped first.
_MOST = 2000


def reach(target: Target) -> float:
    """Return how far apart two states may lie and still be taken for one place.

    Three times the largest distance from an expert state to the next one, of 512 spread over the
    data; at most 5 % of the domain's diagonal.
    """
    diagonal = float(torch.linalg.vector_norm(target.high - target.low))
    gap = target.demonstrations.support.gap
    return min(_SPACINGS * gap, _SHARE * diagonal) or _SHARE * diagonal


def spread(states: Tensor, apart: float, generator: np.random.Generator, tries: int = 8) -> Tensor:
    """Return the row numbers of a large set of `states [n, d]` pairwise farther than `apart`.

    The largest such set is a maximum independent set; this takes, again and again, a state with
    the fewest neighbours left, ties broken at random, and keeps the best of some tries.
    """
    rows = torch.arange(len(states))
    share = 0.1
    while len(rows) > _MOST:
        rows = rows[thinned(states[rows], share * apart)]
        share *= 1.5
    near = (torch.cdist(states[rows], states[rows]) <= apart).numpy()
    np.fill_diagonal(near, False)
    best: list[int] = []
    for _ in range(tries):
        chosen = _fewest_neighbours_first(near, generator)
        best = chosen if len(chosen) > len(best) else best
    return rows[best]


def _fewest_neighbours_first(near: NDArray[np.bool_], generator: np.random.Generator) -> list[int]:
    left = np.ones(len(near), dtype=bool)
    degree = near.sum(axis=1).astype(float) + 0.9 * generator.random(len(near))
    chosen = []
    while left.any():
        one = int(np.where(left, degree, np.inf).argmin())
        chosen.append(one)
        gone = near[one] & left
        gone[one] = True
        left &= ~gone
        degree -= near[:, gone].sum(axis=1)
    return chosen


def thinned(states: Tensor, apart: float) -> Tensor:
    """Return row numbers of `states [n, d]` that lie farther than `apart` from all kept before.

    Greedy, except that a row is dropped for the sake of a near one of its block that is dropped
    itself: no two of the kept are near each other.
    """
    kept = torch.empty(0, dtype=torch.int64)
    for rows in torch.split(torch.arange(len(states)), 512):
        block = states[rows]
        near = torch.cdist(block, block) <= apart
        fresh = ~near.tril(diagonal=-1).any(dim=1)
        fresh &= (torch.cdist(block, states[kept]) > apart).all(dim=1)
        kept = torch.cat([kept, rows[fresh]])
    return kept
