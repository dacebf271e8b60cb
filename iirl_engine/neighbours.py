"""Which points are nearest to a query: always those that float64 distances name.

Points of few coordinates are searched by a kd-tree. Others are by matrix products: those of each
cell of points with the queries that it may have a neighbour of, or those of all points with the
queries that this does not spare much. Whatever the way, points at the same distance come in the
order of their row numbers, so that the answer depends neither on the batch nor on the number of
threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from iirl_engine.cells import Cells
from iirl_engine.products import (
    bounding,
    float32_is_kept,
    for_bounds,
    kth_highest,
    product,
    rounding,
)

# From queries `[m, d]` and k to row numbers `[m, k]`.
Search = Callable[[Tensor, int], Tensor]

# Above this width a kd-tree visits so many points that matrix products are faster.
_TREE_WIDTH = 5
# So many queries, by so many points, are multiplied at a time: what a core's cache holds.
_QUERIES, _POINTS = 512, 512
# Consecutive points make a block, of which the best score counts at first, and blocks a group.
_BLOCK, _GROUP = 8, 16
# So many more than k are looked at, in case that rounding has hidden one of the k.
_SPARE = 2
# So many queries of so many points or more are worth a look at cells of points first.
_MANY, _LARGE = 2**13, 2**15
# So many numbers are held at a time.
_TILE = 2**20
# Queries farther out than this many units are left to float64.
_FAR = 1e9


class Neighbours:
    """Points, indexed for the exact search of the nearest to each query.

    Parameters
    ----------
    points
        `[n, d]` finite float64 points, n >= 1, in units of their spread.
    """

    def __init__(self, points: Tensor) -> None:
        self._points = points

    def find(self, queries: Tensor, k: int) -> Tensor:
        """Return the row numbers `[m, k]` of the k <= n points nearest to `queries [m, d]`."""
        found = torch.empty((len(queries), k), dtype=torch.int64)
        if not len(queries):
            return found
        if self._points.shape[1] <= _TREE_WIDTH:
            if len(queries) < _MANY:
                return self._by_tree(queries, k, k + 1)
            # Queries that lie together visit the same points, which the cache then holds.
            order = _in_boxes(queries)
            found[order] = self._by_tree(queries[order], k, k + 1)
            return found
        if k + _SPARE > len(self._points) // (_BLOCK * _GROUP) or not float32_is_kept():
            return self._in_parts(self._by_comparison, queries, k, _TILE // len(self._points))
        if len(queries) < _MANY or len(self._points) < _LARGE:
            return self._in_parts(self._by_product, queries, k, _QUERIES)
        settled = self._by_cells(queries, k, found)
        found[~settled] = self._in_parts(self._by_product, queries[~settled], k, _QUERIES)
        return found

    def _in_parts(self, search: Search, queries: Tensor, k: int, rows: int) -> Tensor:
        found = torch.empty((len(queries), k), dtype=torch.int64)
        rows = max(1, rows)
        parts = zip(torch.split(queries, rows), torch.split(found, rows), strict=True)
        for part, answer in parts:
            answer.copy_(search(part, k))
        return found

    @functools.cached_property
    def _cells(self) -> Cells:
        return Cells(self._points - self._centre)

    def _by_cells(self, queries: Tensor, k: int, found: Tensor) -> Tensor:
        """Fill in `found [m, k]` where that is quick; return where `[m]`."""
        away = queries - self._centre
        near = away.abs().amax(dim=1) < _FAR
        settled, row, number = self._cells.near(torch.where(near[:, None], away, 0.0), k)
        settled &= near
        kept = settled[row]
        place = settled.cumsum(dim=0) - 1
        found[settled] = self._first(queries[settled], place[row[kept]], number[kept], k)
        return settled

    @functools.cached_property
    def _tree(self) -> cKDTree:
        # Cells are split in the middle: queries from afar then visit far fewer of them.
        return cKDTree(self._points.numpy(), leafsize=32, balanced_tree=False, compact_nodes=False)

    def _by_tree(self, queries: Tensor, k: int, asked: int) -> Tensor:
        """Ask for more than k, so that a tie at the k-th is seen; then for still more."""
        asked = min(asked, len(self._points))
        answer = self._tree.query(queries.numpy(), k=[*range(1, asked + 1)])
        apart, index = (np.asarray(part) for part in answer)
        found = self._ordered(queries, torch.from_numpy(index.astype(np.int64)), k)
        if asked == len(self._points):
            return found
        tied = torch.from_numpy(apart[:, -1] <= apart[:, k - 1] * (1 + 1e-9))
        if tied.any():
            parts = torch.split(queries[tied], max(1, _TILE // asked))
            found[tied] = torch.cat([self._by_tree(part, k, 4 * asked) for part in parts])
        return found

    def _ordered(self, queries: Tensor, candidates: Tensor, k: int) -> Tensor:
        """Return the k nearest `[m, k]` of `candidates [m, c]`; n is none."""
        candidates, last = candidates.sort(dim=1).values, len(self._points) - 1
        rows = max(1, _TILE // (candidates.shape[1] * queries.shape[1]))
        parts = zip(torch.split(queries, rows), torch.split(candidates, rows), strict=True)
        apart = torch.cat(
            [
                _apart(part[:, None], _rows(self._points, among.clamp(max=last)))
                for part, among in parts
            ]
        )
        apart.masked_fill_(candidates == len(self._points), torch.inf)
        return candidates.gather(1, apart.sort(dim=1, stable=True).indices[:, :k])

    @functools.cached_property
    def _centre(self) -> Tensor:
        # The median, since a few outliers would draw a mean away from all other points.
        return self._points.median(dim=0).values

    @functools.cached_property
    def _wide(self) -> Tensor:
        return for_bounds(self._points - self._centre)

    @functools.cached_property
    def _narrow(self) -> Tensor:
        """`[g * 16 * 8, d + 2]`, filled up with what is nobody's neighbour."""
        some = -len(self._points) % (_BLOCK * _GROUP)
        nowhere = torch.zeros((some, self._wide.shape[1]), dtype=torch.float64)
        nowhere[:, -1] = -1e30
        return torch.cat([for_bounds(self._points - self._centre, torch.float32), nowhere]).float()

    def _by_product(self, queries: Tensor, k: int) -> Tensor:
        """Order a shortlist made in float32 where it is proved to hold the k nearest.

        It is, if what was left out has upper bounds below the lower bounds of k points.
        """
        away = queries - self._centre
        near = away.abs().amax(dim=1) < _FAR
        upper, lower = bounding(torch.where(near[:, None], away, 0.0), torch.float32)
        blocks, left_out = self._best_blocks(upper, k + _SPARE)
        candidates = (_BLOCK * blocks[:, :, None] + torch.arange(_BLOCK)).flatten(1)
        bounds = self._bounds(blocks, torch.stack([upper, lower], dim=1))
        best = bounds[:, 0].topk(k + _SPARE, dim=1, sorted=False)
        least = kth_highest(bounds[:, 1], k) - rounding(away)
        left_out = torch.maximum(left_out, best.values.amin(dim=1))
        shortlist = candidates.gather(1, best.indices)
        found = self._ordered(queries, shortlist.clamp(max=len(self._points)), k)
        unsure = ~(near & (left_out < least))
        if unsure.any():
            parts = torch.split(queries[unsure], max(1, _TILE // len(self._points)))
            found[unsure] = torch.cat([self._by_comparison(part, k) for part in parts])
        return found

    def _best_blocks(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the blocks `[m, count]` of highest score, and a bound `[m]` on all others."""
        peaks = torch.empty((len(self._narrow) // _BLOCK, len(queries)), dtype=torch.float32)
        tiles = zip(
            torch.split(self._narrow, _POINTS), torch.split(peaks, _POINTS // _BLOCK), strict=True
        )
        for points, highest in tiles:
            # Not kept until the next are made, so that these take the same memory.
            torch.amax(product(points, queries).view(-1, _BLOCK, len(queries)), dim=1, out=highest)
        # The highest blocks lie in the groups whose highest blocks are highest.
        by_group = peaks.view(-1, _GROUP, len(queries)).amax(dim=1).T.contiguous()
        groups = by_group.topk(count, dim=1, sorted=False).indices
        blocks = (_GROUP * groups[:, :, None] + torch.arange(_GROUP)).flatten(1)
        best = peaks.T.gather(1, blocks).topk(count, dim=1, sorted=False)
        return blocks.gather(1, best.indices), best.values.amin(dim=1)

    def _bounds(self, blocks: Tensor, queries: Tensor) -> Tensor:
        """Return the scores `[m, 2, s * 8]` of `queries [m, 2, d + 2]` in `blocks [m, s]`."""
        width = queries.shape[2]
        by_block = self._narrow.view(-1, _BLOCK * width)
        rows = max(1, _TILE // (blocks.shape[1] * _BLOCK * width))
        parts = zip(torch.split(blocks, rows), torch.split(queries, rows), strict=True)
        return torch.cat(
            [
                torch.bmm(part, _rows(by_block, among).view(len(part), -1, width).mT)
                for among, part in parts
            ]
        )

    def _by_comparison(self, queries: Tensor, k: int) -> Tensor:
        """Order every point that is not proved, in float64, to be farther than k others."""
        away = queries - self._centre
        upper, lower = bounding(away)
        bounds = upper @ self._wide.T
        best = bounds.topk(k, dim=1, sorted=False).indices
        least = kth_highest(torch.bmm(_rows(self._wide, best), lower[:, :, None])[:, :, 0], k)
        # Written so that what compares with nothing is kept.
        kept = ~(bounds < (least - rounding(away))[:, None])
        row, number = kept.nonzero(as_tuple=True)
        return self._first(queries, row, number, k)

    def _first(self, queries: Tensor, row: Tensor, number: Tensor, k: int) -> Tensor:
        """Return the k nearest `[m, k]` of pairs `[c]` of a query and a point, k or more each."""
        rows = max(1, _TILE // queries.shape[1])
        pairs = zip(torch.split(row, rows), torch.split(number, rows), strict=True)
        apart = torch.cat([_apart(_rows(queries, a), _rows(self._points, b)) for a, b in pairs])
        order = torch.from_numpy(np.lexsort((number.numpy(), apart.numpy(), row.numpy())))
        first = torch.searchsorted(row[order], torch.arange(len(queries)))
        return number[order[first[:, None] + torch.arange(k)]]


def _in_boxes(queries: Tensor) -> Tensor:
    """Return row numbers `[m]` of `queries [m, d]`, d <= 5, box by box of a coarse grid."""
    away = queries - queries.median(dim=0).values
    size = away.abs().median(dim=0).values.clamp(min=torch.finfo(torch.float64).tiny)
    place = (2 * away / size + 4).clamp(0, 7).to(torch.int32)
    box = (place * 8 ** torch.arange(place.shape[1])).sum(dim=1)
    return torch.from_numpy(box.numpy().astype(np.uint16).argsort(kind="stable"))


def _apart(queries: Tensor, points: Tensor) -> Tensor:
    apart: Tensor = torch.linalg.vector_norm(queries - points, dim=-1)
    return apart


def _rows(points: Tensor, numbers: Tensor) -> Tensor:
    """Return `points[numbers]`, in a third of the time."""
    return points.index_select(0, numbers.flatten()).view((*numbers.shape, points.shape[1]))
