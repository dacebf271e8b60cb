"""Which points are nearest to a query: always those that float64 distances name.

Points of few coordinates are searched by a kd-tree, others by matrix products. Either way points
at the same distance come in the order of their row numbers, so that the answer depends neither on
the batch nor on the number of threads.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

# Above this width a kd-tree visits so many points that matrix products are faster.
_TREE_WIDTH = 5
# So many queries, by so many points, are multiplied at a time: what a core's cache holds.
_QUERIES, _POINTS = 512, 512
# Consecutive points make a block, of which the best score counts at first, and blocks a group.
_BLOCK, _GROUP = 8, 16
# So many more than k are looked at, in case that rounding has hidden one of the k.
_SPARE = 2
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
            return self._by_tree(queries, k, k + 1)
        if k + _SPARE > len(self._points) // (_BLOCK * _GROUP) or not float32_is_kept():
            search, rows = self._by_comparison, max(1, _TILE // len(self._points))
        else:
            search, rows = self._by_product, _QUERIES
        for part, answer in zip(torch.split(queries, rows), torch.split(found, rows), strict=True):
            answer.copy_(search(part, k))
        return found

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
        return _for_bounds(self._points - self._centre)

    @functools.cached_property
    def _narrow(self) -> Tensor:
        """`[g * 16 * 8, d + 2]`, filled up with what is nobody's neighbour."""
        some = -len(self._points) % (_BLOCK * _GROUP)
        nowhere = torch.zeros((some, self._wide.shape[1]), dtype=torch.float64)
        nowhere[:, -1] = -1e30
        return torch.cat([_for_bounds(self._points - self._centre, torch.float32), nowhere]).float()

    def _by_product(self, queries: Tensor, k: int) -> Tensor:
        """Order a shortlist made in float32 where it is proved to hold the k nearest.

        It is, if what was left out has upper bounds below the lower bounds of k points.
        """
        away = queries - self._centre
        near = away.abs().amax(dim=1) < _FAR
        upper, lower = _bounding(torch.where(near[:, None], away, 0.0), torch.float32)
        blocks, left_out = self._best_blocks(upper, k + _SPARE)
        candidates = (_BLOCK * blocks[:, :, None] + torch.arange(_BLOCK)).flatten(1)
        bounds = self._bounds(blocks, torch.stack([upper, lower], dim=1))
        best = bounds[:, 0].topk(k + _SPARE, dim=1, sorted=False)
        least = _least(bounds[:, 1], k) - _rounding(away)
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
        upper, lower = _bounding(away)
        bounds = upper @ self._wide.T
        best = bounds.topk(k, dim=1, sorted=False).indices
        least = _least(torch.bmm(_rows(self._wide, best), lower[:, :, None])[:, :, 0], k)
        # Written so that what compares with nothing is kept.
        kept = ~(bounds < (least - _rounding(away))[:, None])
        row, number = kept.nonzero(as_tuple=True)
        rows = max(1, _TILE // queries.shape[1])
        pairs = zip(torch.split(row, rows), torch.split(number, rows), strict=True)
        apart = torch.cat([_apart(_rows(queries, a), _rows(self._points, b)) for a, b in pairs])
        order = torch.from_numpy(np.lexsort((number.numpy(), apart.numpy(), row.numpy())))
        first = torch.searchsorted(row, torch.arange(len(queries)))
        return number[order[first[:, None] + torch.arange(k)]]


def _apart(queries: Tensor, points: Tensor) -> Tensor:
    apart: Tensor = torch.linalg.vector_norm(queries - points, dim=-1)
    return apart


def _rows(points: Tensor, numbers: Tensor) -> Tensor:
    """Return `points[numbers]`, in a third of the time."""
    return points.index_select(0, numbers.flatten()).view((*numbers.shape, points.shape[1]))


def _least(bounds: Tensor, k: int) -> Tensor:
    """Return the k-th largest `[m]` of `bounds [m, c]`."""
    return bounds.topk(k, dim=1, sorted=False).values.amin(dim=1)


# The point p nearest to a query q has the largest score q.p - |p|^2 / 2. A dot product of d + 2
# numbers, summed in any order, is wrong by at most (d + 2) u / (1 - (d + 2) u) times that of their
# magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and
# rounding p, q and |p|^2 to a precision of unit roundoff u adds a few u more. So with
# e = c (|q| |p| + |p|^2 / 2) and c = (d + 16) u, the score lies between the computed
# q.p - |p|^2 / 2 - e and q.p - |p|^2 / 2 + e. Both bounds are products of longer vectors:
# (p, c |p|, -(1 - c) |p|^2 / 2) with (q, |q|, 1) or with (q, -|q|, -(1 + c) / (1 - c)).


def _slack(width: int, kind: torch.dtype) -> float:
    # A tenth more, for terms of second order.
    return 1.1 * (width + 16) * torch.finfo(kind).eps / 2


def _for_bounds(points: Tensor, kind: torch.dtype = torch.float64) -> Tensor:
    """Return points `[n, d]` with what bounds of scores computed in `kind` need, `[n, d + 2]`."""
    slack = _slack(points.shape[1], kind)
    norm = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    return torch.cat([points, slack * norm, (slack - 1) * norm.square() / 2], dim=1)


def _bounding(queries: Tensor, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return what multiplies points to an upper bound and to a lower one, `[m, d + 2]` each."""
    slack = _slack(queries.shape[1], kind)
    norm = torch.linalg.vector_norm(queries, dim=1, keepdim=True)
    one = torch.ones_like(norm)
    upper = torch.cat([queries, norm, one], dim=1)
    lower = torch.cat([queries, -norm, one * (1 + slack) / (1 - slack)], dim=1)
    return upper.to(kind), lower.to(kind)


def _rounding(queries: Tensor) -> Tensor:
    """Return by how much scores must differ `[m]` for distances in float64 to tell them apart."""
    width, smallest = queries.shape[1], torch.finfo(torch.float32).tiny
    norm: Tensor = torch.linalg.vector_norm(queries, dim=1)
    return 4 * _slack(width, torch.float64) * norm.square() + 4 * smallest * (width + norm)


def float32_is_kept() -> bool:
    """Tell whether torch multiplies float32 as such; it can be set to round more."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:
        return torch.get_float32_matmul_precision() == "highest"
    precision: str = matmul.fp32_precision
    return precision in ("none", "ieee")


# oneDNN's product is the faster one on processors that MKL does not know; it is torch's own
# affair how to call it, so it may be gone.
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def product(points: Tensor, queries: Tensor) -> Tensor:
    """Return `points [n, d] @ queries [m, d].T`."""
    if _onednn is None or points.dtype != torch.float32:
        return points @ queries.T
    found: Tensor = _onednn(points, queries, None, "none", [], "")
    return found
