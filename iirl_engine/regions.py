"""Which confirmed flaws belong together: regions with an extent in place of points.

Two flaws belong to one region when a chain of flaws connects them whose steps are no longer than
twice the scale and whose straight segments are flawed as well, as far as probes half a scale apart
tell: single linkage, with every link verified. It knows no number of clusters, depends on no order,
and works in any number of features. Flaws closer to each other than half the scale are not told
apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from iirl_engine.records import Flaws, Region
from iirl_engine.reward import RewardModel
from iirl_engine.support import power_of_two

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# Longest link, in units of the scale, and where along it the reward is asked.
_LINK = 2.0
_SHARES = (0.25, 0.5, 0.75)
# Representatives at most, and links tried for each, so that grouping costs no more than an audit.
_MOST = 2000
_TRIES = 2
_BLOCK = 512


def region_scale(model: RewardModel) -> float:
    """Return how far apart two states may lie and still count as near.

    The least `reach` of the norms. Where no norm can tell, it is twice the 99 % quantile of the
    distance from each expert state to the next; or a tenth of the domain's width where there is
    no next one.
    """
    told = [reach for norm in model.norms.values() if (reach := norm.reach()) is not None]
    if told:
        return min(told)
    spacing = model.demonstrations.support.spacing
    apart = spacing[torch.isfinite(spacing) & (spacing > 0)]
    if len(apart):
        return float(2 * torch.quantile(apart[: 2**24], 0.99))
    return 0.1 * float((np.array(model.domain.high) - np.array(model.domain.low)).max())


@attrs.frozen(eq=False)
class Groups:
    """The open flaws of a round, grouped into regions.

    Parameters
    ----------
    flaws
        All flaws of the run; each open one knows its region.
    rows
        Rows of the flaws of each region, the most severe first.
    queries
        Reward queries that the grouping took.
    """

    flaws: Flaws
    rows: list[Rows]
    queries: int


def group_open(
    flaws: Flaws, is_open: NDArray[np.bool_], model: RewardModel, floor: float
) -> Groups:
    """Group the flaws that the reward endorses; the others keep the region they have."""
    rows = np.flatnonzero(is_open)
    grouped, queries = group(flaws.take(rows), model, floor)
    members = [rows[group] for group in grouped]
    regions = list(flaws.regions or ("",) * len(flaws))
    for group_ in members:
        for row in group_:
            regions[row] = flaws.ids[group_[0]]
    return Groups(attrs.evolve(flaws, regions=tuple(regions)), members, queries)


def group(flaws: Flaws, model: RewardModel, floor: float) -> tuple[list[Rows], int]:
    """Return the rows of the flaws of each region, and the reward queries that took.

    Regions come most severe first, and so do the rows of each.

    Parameters
    ----------
    flaws
        Flaws that the reward endorses.
    model, floor
        The reward; above the floor it endorses.
    """
    if not len(flaws):
        return [], 0
    severity = flaws.rewards * flaws.violations
    order = np.lexsort((np.array(flaws.ids), -severity))
    scale = region_scale(model)
    states = flaws.states[order]
    asked = 0

    def flawed(probes: Array) -> NDArray[np.bool_]:
        nonlocal asked
        asked += len(probes)
        return model.flawed(probes, floor)

    chosen, nearest = pack(states, scale / 2)
    label = join(states[chosen], _LINK * scale, flawed)[nearest]
    _, first = np.unique(label, return_index=True)
    return [order[label == label[row]] for row in np.sort(first)], asked


def pack(states: Array, radius: float) -> tuple[Rows, Rows]:
    """Return rows of representatives, and for each state the place of the nearest of them.

    A greedy packing: a state that lies farther than `radius` from every earlier representative
    becomes one, while there are fewer than 2,000.
    """
    middle = states - states.mean(axis=0)
    chosen: list[int] = []
    for start in range(0, len(states), _BLOCK):
        block = middle[start : start + _BLOCK]
        free = _apart(block, middle[chosen]).min(axis=1, initial=np.inf) > radius
        apart = _apart(block, block)
        for row in np.flatnonzero(free):
            if free[row] and len(chosen) < _MOST:
                chosen.append(start + int(row))
                free &= apart[row] > radius
    blocks = range(0, len(states), _BLOCK)
    nearest = [_apart(middle[b : b + _BLOCK], middle[chosen]).argmin(axis=1) for b in blocks]
    return np.array(chosen), np.concatenate(nearest)


def join(points: Array, longest: float, flawed: Callable[[Array], NDArray[np.bool_]]) -> Rows:
    """Return the component `[n]` of each point under links of at most `longest` that hold.

    As in Borůvka's algorithm, each component tries its shortest link that was not tried yet, all
    of a round at once; in all two per point are tried, and what they do not join stays apart. A
    link holds when `flawed` says so of all probes on its segment.
    """
    a, b, length = _pairs(points, longest)
    label = np.arange(len(points))
    held: list[tuple[int, int]] = []
    left = _TRIES * len(points)
    while True:
        between = label[a] != label[b]
        a, b, length = a[between], b[between], length[between]
        if not len(a) or not left:
            return label
        # Pairs are sorted by length, so the first of each component is its shortest.
        ends = np.stack([label[a], label[b]], axis=1).ravel()
        tried = np.unique(np.unique(ends, return_index=True)[1] // 2)[:left]
        left -= len(tried)
        probes = [(1 - s) * points[a[tried]] + s * points[b[tried]] for s in _SHARES]
        holds = flawed(np.concatenate(probes)).reshape(len(_SHARES), -1).all(axis=0)
        held += zip(a[tried[holds]].tolist(), b[tried[holds]].tolist(), strict=True)
        label = _components(len(points), held)
        rest = np.ones(len(a), dtype=np.bool_)
        rest[tried] = False
        a, b, length = a[rest], b[rest], length[rest]


def describe(
    flaws: Flaws, rows: Sequence[Rows], model: RewardModel, number: int, is_open: NDArray[np.bool_]
) -> list[Region]:
    """Return regions whose flaws stand in `rows`, the worst first, as `group` returns them.

    Parameters
    ----------
    number
        The round's number.
    is_open
        `[m]` whether the newest release endorses each flaw.
    """
    if not rows:
        return []
    worst = np.array([members[0] for members in rows])
    distance, nearest = model.demonstrations.support.nearest(torch.tensor(flaws.states[worst]))
    expert = model.demonstrations.states[nearest.numpy()]
    return [
        Region(
            id=flaws.ids[members[0]],
            round=number,
            flaws=tuple(flaws.ids[row] for row in members),
            open=int(is_open[members].sum()),
            severity=float(flaws.rewards[members[0]] * flaws.violations[members[0]]),
            center=tuple(states[0].tolist()),
            radius=float(_apart(states - states[0], np.zeros((1, states.shape[1]))).max()),
            low=tuple(states.min(axis=0).tolist()),
            high=tuple(states.max(axis=0).tolist()),
            nearest=tuple(expert[place].tolist()),
            distance=float(distance[place]),
            norms=tuple(sorted({flaws.norms[row] for row in members})),
            auditors=tuple(sorted({flaws.auditors[row] for row in members})),
        )
        for place, members in enumerate(rows)
        for states in [flaws.states[members]]
    ]


def _pairs(points: Array, longest: float) -> tuple[Rows, Rows, Array]:
    """Return the pairs of points at most `longest` apart, the closest first."""
    middle = points - points.mean(axis=0)
    found: list[tuple[Rows, Rows, Array]] = []
    for start in range(0, len(points), _BLOCK):
        apart = _apart(middle[start : start + _BLOCK], middle[start:])
        a, b = np.nonzero(np.triu(apart <= longest, k=1))
        found.append((a + start, b + start, apart[a, b]))
    a, b, length = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((b, a, length))
    return a[order], b[order], length[order]


def _components(count: int, links: Sequence[tuple[int, int]]) -> Rows:
    if not links:
        return np.arange(count)
    a, b = np.array(links).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _apart(a: Array, b: Array) -> Array:
    """Return the Euclidean distances `[n, m]` by |a|^2 - 2ab + |b|^2, in range at any scale."""
    unit = power_of_two(float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))))
    a, b = a / unit, b / unit
    squared = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    apart: Array = np.sqrt(squared.clip(min=0)) * unit
    return apart
