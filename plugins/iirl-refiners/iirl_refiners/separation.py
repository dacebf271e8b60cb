"""Planes between known-good states and flaws, few features each, learned from few labels.

A flawed region holds thousands of states, of which a few dozen are known. What generalises from
them is the simplest boundary that known-good states allow: a limit of one feature where one
exists, otherwise a sparse combination of features. The flaws are covered by such planes greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import linprog

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# What leaving a flaw on the wrong side costs, in units of one feature's coefficient.
_PRICE = 1.0
# Flaws that one program is about, at most.
_PROGRAM = 400
# Known-good states that join the program at a time, and how often they may.
_MORE, _PASSES = 200, 40
# What limits of single features, and what a plane through several, have to close of flaws that
# they were not fitted to.
_LIMITS_HOLD, _HOLDS = 0.9, 0.98
# Flaws from which a plane through several features is learned.
_FITTED = 10
# How many times the distance at which the first flaw is expected from its region's edge.
_EDGES = 3.0
# Where a plane lies at first in the gap, from the known-good states on.
_FREE = 0.1
_TINY = 1e-9


@attrs.frozen(eq=False)
class Plane:
    """A half-space {s : normal . s >= offset}, and where known-good states end on its way.

    Parameters
    ----------
    normal
        `[d]`, of length 1 in the units given.
    offset
        Between the last known-good state and the first flaw beyond it.
    edge
        Largest normal . g over known-good states, below the offset.
    """

    normal: Array
    offset: float
    edge: float

    @property
    def features(self) -> int:
        """How many features the plane looks at."""
        return int((self.normal != 0).sum())


def covering_planes(flaws: Array, good: Array, least: int, most: int) -> tuple[list[Plane], Rows]:
    """Return at most `most` planes that cut flaws off from all known-good states.

    The flaws are halved again and again by 2-means. A cluster is explained by limits of single
    features where these hold, otherwise by one sparse plane or by what explains its halves,
    whichever holds better. An explanation holds when what every second flaw gives closes the
    others. Of all planes those that cut off most flaws are kept until the others add nothing.

    Parameters
    ----------
    flaws, good
        `[m, d]` and `[k, d]`, features of comparable units.
    least
        Flaws that every plane has to cut off.
    most
        Largest number of planes.

    Returns
    -------
    planes
        Those that cut off most flaws first.
    rows
        Of the flaws that no plane cuts off.
    """
    planes = _explained(flaws, good, np.arange(len(flaws)), least)[0]
    beyond = np.array([flaws @ p.normal >= p.offset for p in planes]).reshape(-1, len(flaws))
    open_flaws = np.ones(len(flaws), dtype=np.bool_)
    chosen: list[Plane] = []
    while len(chosen) < most and len(planes):
        gains = (beyond & open_flaws).sum(axis=1)
        best = int(gains.argmax())
        if gains[best] == 0:
            break
        chosen.append(planes[best])
        open_flaws &= ~beyond[best]
    return loosened(chosen, flaws, good), np.flatnonzero(open_flaws)


def _explained(flaws: Array, good: Array, rows: Rows, least: int) -> tuple[list[Plane], int]:
    """Return planes for some rows, and how many of the flaws they close when not fitted to them."""
    some = flaws[rows]
    if len(rows) < max(least, 2):
        return [], 0
    closed = _closed_unseen(lambda part: limits(part, good, least), some)
    if closed >= _LIMITS_HOLD * len(rows):
        return limits(some, good, least), closed
    parts = [_explained(flaws, good, half, least) for half in halved(flaws, rows)]
    apart = sum(closed for _, closed in parts)
    if len(rows) >= _FITTED:
        closed = _closed_unseen(lambda part: sparse_plane(part, good), some)
        if closed >= max(apart, _HOLDS * len(rows)):
            return sparse_plane(some, good), closed
    return [plane for planes, _ in parts for plane in planes], apart


def _closed_unseen(explain: Callable[[Array], list[Plane]], flaws: Array) -> int:
    """Return how many flaws are closed by what the other half of them gives."""
    halves = [(explain(flaws[i::2]), flaws[1 - i :: 2]) for i in range(2)]
    return sum(int(_beyond(planes, rest).sum()) for planes, rest in halves)


def _beyond(planes: list[Plane], states: Array) -> NDArray[np.bool_]:
    found = np.zeros(len(states), dtype=np.bool_)
    for plane in planes:
        found |= states @ plane.normal >= plane.offset
    return found


def limits(flaws: Array, good: Array, least: int) -> list[Plane]:
    """Return limits of single features, each chosen because it cuts off most flaws still open."""
    chosen: list[Plane] = []
    while True:
        found = list(single_features(flaws, good))
        if not found:
            return chosen
        counts = [int((flaws @ p.normal > p.edge + _TINY).sum()) for p in found]
        if max(counts) < least:
            return chosen
        plane = placed(found[int(np.argmax(counts))].normal, flaws, good)
        if plane is None:
            return chosen
        chosen.append(plane)
        flaws = flaws[flaws @ plane.normal < plane.offset]


def sparse_plane(flaws: Array, good: Array) -> list[Plane]:
    """Return the plane of few features that cuts off many flaws, or none where none does."""
    normal = sparse_direction(flaws, good)
    plane = None if normal is None else placed(normal, flaws, good)
    return [] if plane is None else [plane]


def single_features(flaws: Array, good: Array) -> Iterator[Plane]:
    """Yield the limits of single features, upper and lower, that cut off any flaw."""
    for sign in (1.0, -1.0):
        edges = (sign * good).max(axis=0)
        for column in np.flatnonzero((sign * flaws > edges + _TINY).any(axis=0)):
            normal = np.zeros(flaws.shape[1])
            normal[column] = sign
            yield Plane(normal, float(edges[column]), float(edges[column]))


def sparse_direction(flaws: Array, good: Array) -> Array | None:
    """Return the normal `[d]` of a sparse plane with all of `good` on one side; None if none is.

    The linear support vector machine with an L1 norm (Zhu et al., "1-norm support vector
    machines", NIPS 2003), whose margin is hard for known-good states g and soft for flaws f:

        minimise |a|_1 + C Σ ξ_f   subject to   a.g <= b,   a.f >= b + 1 - ξ_f,   ξ >= 0.

    Few known-good states bind, so that the program starts with the extremes of the features and
    those that its solution puts on the wrong side join it. Of very many flaws every so many-th
    tells as much.
    """
    flaws = flaws[:: 1 + len(flaws) // _PROGRAM]
    m, d = flaws.shape
    cost = np.concatenate([np.ones(2 * d), [0.0], np.full(m, _PRICE)])
    bounds = [(0, None)] * (2 * d) + [(None, None)] + [(0, None)] * m
    apart = np.hstack([-flaws, flaws, np.ones((m, 1)), -np.eye(m)])
    rows = np.unique(np.concatenate([good.argmin(axis=0), good.argmax(axis=0)]))
    for _ in range(_PASSES):
        some = good[rows]
        spared = np.hstack([some, -some, np.full((len(some), 1), -1.0), np.zeros((len(some), m))])
        left, right = np.vstack([apart, spared]), np.concatenate([-np.ones(m), np.zeros(len(some))])
        solution = linprog(cost, A_ub=left, b_ub=right, bounds=bounds, method="highs")
        if solution.x is None:
            return None
        normal, offset = solution.x[:d] - solution.x[d : 2 * d], solution.x[2 * d]
        over = good @ normal - offset
        wrong = np.flatnonzero(over > 1e-7)
        if not len(wrong):
            break
        rows = np.union1d(rows, wrong[np.argsort(-over[wrong], kind="stable")[:_MORE]])
    normal = np.where(np.abs(normal) > 1e-6 * np.abs(normal).max(), normal, 0.0)
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else None


def placed(normal: Array, flaws: Array, good: Array) -> Plane | None:
    """Return the plane of a given normal shortly behind the last known-good state.

    None where no flaw lies beyond that.
    """
    edge, along = float((good @ normal).max()), flaws @ normal
    along = along[along > edge + _TINY]
    if not len(along):
        return None
    return Plane(normal, edge + _FREE * float(along.min() - edge), edge)


def loosened(planes: list[Plane], flaws: Array, good: Array) -> list[Plane]:
    """Return the planes with limits of single features moved outward where flaws allow.

    A flaw near the known-good states often lies beyond another plane by far: it says nothing of
    where this limit has to be. What counts are the flaws that a limit alone cuts off; without any
    it is dropped. Were those uniform from the limit on, the first of m would lie their mean excess
    over it divided by m beyond. The limit goes a few times that before the first, but no nearer to
    the known-good states than the middle.
    """
    kept = list(planes)
    for plane in reversed([p for p in planes if p.features == 1]):
        others = [p for p in kept if p is not plane]
        along = np.sort(flaws[~_beyond(others, flaws)] @ plane.normal)
        along = along[along >= plane.offset]
        if not len(along):
            kept = others
            continue
        first = float(along[0])
        apart = min((first - plane.edge) / 2, _EDGES * float((along - first).mean()) / len(along))
        moved = Plane(plane.normal, first - apart, plane.edge)
        kept = [moved if p is plane else p for p in kept]
    return kept


def halved(points: Array, rows: Rows) -> tuple[Rows, ...]:
    """Return the rows in two clusters by 2-means; none where the points do not differ."""
    some = points[rows]
    first = some[np.square(some - some.mean(axis=0)).sum(axis=1).argmax()]
    apart = np.square(some - first).sum(axis=1)
    if not apart.any():
        return ()
    starts = np.stack([first, some[apart.argmax()]])
    label = kmeans2(some, starts, minit="matrix", missing="warn")[1] == 1
    if label.all() or not label.any():  # where distances round to nothing
        label = apart > 0
    return rows[~label], rows[label]
