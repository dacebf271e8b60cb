"""Balls: few that cover all flaws and reach no known-good state."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from iirl_engine.support import Support

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# A ball around a flaw may be as small as this share of the way to the nearest known-good state;
# its centre may lie this many times as far from that state as the flaw does.
_SHARES, _TIMES = (0.5,), (1.0, 1.5, 2.0, 4.0, 8.0)
# A ball that reaches beyond the nearest known-good state is as many times wider than the gap.
_OVERLAPS = (1.02, 1.1, 1.3, 2.0)
# So many points of each kind are covered at a time, by balls made for so many of them.
_ROWS, _SITES = 8_000, 600
# A ball must cover so many drawn points, unless it covers a reported one.
_SEVERAL = 2
# So many numbers are held at a time.
_TILE = 2**20
# Taking everything from the allowed states costs as much as this many further balls.
_PRICE = 250.0


class Balls(NamedTuple):
    """`centers [k, d]` and `radii [k]`."""

    centers: Array
    radii: Array

    def take(self, rows: Rows | Mask) -> Balls:
        """Return the balls of these row numbers, or of this mask."""
        return Balls(self.centers[rows], self.radii[rows])

    def scaled(self, factor: float) -> Balls:
        """Return balls of the same centres and `factor` times the radii."""
        return Balls(self.centers, self.radii * factor)


def joined(*parts: Balls) -> Balls:
    """Return all balls, in order."""
    return Balls(
        np.concatenate([p.centers for p in parts]), np.concatenate([p.radii for p in parts])
    )


def touching(sites: Array, good: Support, reach: float, least: float) -> Balls:
    """Return balls of many scales that hold a site within `reach` and no good state inside.

    None is narrower than `least`.

    A ball touches the good state nearest to its centre. The farther the centre lies beyond the
    site, as seen from the good state nearest to that, the larger the ball: far out it is a half
    space, as far as the domain can tell.
    """
    apart, nearest = good.nearest(torch.from_numpy(sites))
    gap, feet = apart.numpy(), good.states[nearest.numpy()]
    parts = [Balls(sites, share * gap) for share in _SHARES]
    for times in _TIMES:
        centers = feet + times * (sites - feet)
        radii = good.distance(torch.from_numpy(centers)).numpy()
        holds = (times - 1) * gap <= reach * radii
        parts.append(Balls(centers[holds], radii[holds]))
    balls = joined(*parts)
    return balls.take(balls.radii >= least)


def overlapping(sites: Array, good: Support, least: float) -> Balls:
    """Return balls around each site that reach beyond the nearest good state."""
    gap = np.maximum(good.distance(torch.from_numpy(sites)).numpy(), least)
    return joined(*(Balls(sites, times * gap) for times in _OVERLAPS))


def inside(points: Array, balls: Balls) -> Mask:
    """Return whether each point is in each ball, `[k, n]`, by matrix products."""
    parts = [(ratio <= 1).numpy() for ratio in _squares(points, balls)]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(balls.radii), 0), np.bool_)


def profiles(points: Array, balls: Balls) -> sparse.csr_array:
    """Return Wendland's φ of each point and ball, `[n, k]`, without its zeros."""
    parts = []
    for ratio in _squares(points, balls):
        columns, rows = (index.numpy() for index in torch.nonzero(ratio < 1, as_tuple=True))
        r = np.sqrt(np.maximum(ratio.numpy()[columns, rows], 0.0))
        values = (1 - r) ** 4 * (4 * r + 1)
        parts.append(sparse.csr_array((values, (rows, columns)), shape=ratio.shape[::-1]))
    if not parts:
        return sparse.csr_array((0, len(balls.radii)))
    return sparse.vstack(parts, format="csr")


def _squares(points: Array, balls: Balls) -> Iterator[torch.Tensor]:
    """Yield |p - c|² / radius², `[k, n]`, in parts of the points.

    |c|² - 2 c·p + |p|² is one matrix product of (c, |c|², 1) and (-2 p, 1, |p|²).
    """
    if not len(points):
        return
    middle = points.mean(axis=0)
    p, c = torch.from_numpy(points - middle), torch.from_numpy(balls.centers - middle)
    c = torch.cat([c, c.square().sum(dim=1, keepdim=True), torch.ones(len(c), 1)], dim=1)
    c *= torch.from_numpy(balls.radii**-2.0)[:, None]
    p = torch.cat([-2 * p, torch.ones(len(p), 1), p.square().sum(dim=1, keepdim=True)], dim=1)
    for part in torch.split(p, _rows(balls)):
        yield c @ part.T


def _rows(balls: Balls) -> int:
    return max(1, _TILE // max(1, len(balls.radii)))


@attrs.frozen
class Spared:
    """Allowed states, and the reward that each would lose."""

    states: Array
    rewards: Array

    def price(self, balls: Balls) -> Array:
        """Return what each ball costs, `[k]`: 1, and more for what it takes from the allowed."""
        if not len(self.states):
            return np.ones(len(balls.radii))
        share = torch.from_numpy(self.rewards / self.rewards.sum())
        taken = torch.zeros(len(balls.radii), dtype=torch.float64)
        parts = _squares(self.states, balls)
        for ratio, part in zip(parts, torch.split(share, _rows(balls)), strict=True):
            taken += (ratio <= 1).double() @ part
        return 1 + _PRICE * taken.numpy()


def cover(
    reported: Array,
    drawn: Array,
    good: Support,
    spared: Spared,
    reach: float,
    least: float,
    most: int,
    generator: np.random.Generator,
) -> Balls:
    """Return balls that cover points within `reach` of their radii, at most `most` of them.

    All reported points are covered first, then drawn ones by balls that cover several. Greedy
    set cover over balls made for some of the points; then more balls for those that none of
    these covers, until all are that can be.
    """
    found = Balls(reported[:0], np.empty(0))
    while len(reported) + len(drawn) and len(found.radii) < most:
        musts = generator.permutation(reported)[:_ROWS]
        rows = np.concatenate([musts, drawn[:_ROWS]])
        sites = musts if len(musts) else generator.permutation(rows)
        offered = touching(sites[:_SITES], good, reach, least)
        within = offered.scaled(reach)
        chosen = _greedy(inside(rows, within), len(musts), spared.price(within))
        added = offered.take(chosen[: most - len(found.radii)])
        found = joined(found, added)
        covered = inside(reported, added.scaled(reach)).any(axis=0)
        if len(reported) and not covered.any():  # no ball can hold what is left
            reported = reported[:0]
            continue
        reported = reported[~covered]
        if not len(musts) and not len(chosen):
            drawn = drawn[_ROWS:]
        drawn = drawn[~inside(drawn, added.scaled(reach)).any(axis=0)]
    return found


def _greedy(covers: Mask, musts: int, prices: Array) -> Rows:
    """Return rows of `covers [k, n]` that cover all that can be, best gain per price first.

    Each covers one of the first `musts` points that none before it does; if there are no such
    points, several others. Lazy: a gain only falls as others are chosen, so one that is still
    best when it is counted again is best. Ties go to the lower row.
    """
    heap = [(-gain, row) for row, gain in enumerate(covers.sum(axis=1) / prices)]
    heapq.heapify(heap)
    open_points = np.ones(covers.shape[1], dtype=np.bool_)
    chosen = []
    while heap:
        _, row = heapq.heappop(heap)
        new = covers[row] & open_points
        gain = np.count_nonzero(new)
        if not new[:musts].any() if musts else gain < _SEVERAL:
            continue
        if heap and -gain / prices[row] > heap[0][0]:
            heapq.heappush(heap, (-gain / prices[row], row))
            continue
        chosen.append(row)
        open_points &= ~covers[row]
    return np.array(chosen, dtype=np.int64)
