"""Which of many balls may hold which states: nearly all pairs are ruled out in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.products import float32_is_kept, product
from iirl_engine.support import power_of_two

Array = NDArray[np.float64]

# So many balls that lie together are ruled out together.
BLOCK = 128
# To how many principal directions distances may be reduced.
_WIDTHS = (8, 16, 32, 64)
# So many centres tell how well that rules out balls.
_SAMPLE = 512
# How much longer a pair takes that is left, for each feature, than a product with one direction.
_LEFT_OVER = 100.0
# So many numbers are held at a time, and so many states are looked at together.
_TILE, _ROWS = 2**20, 2**11
# Squared distance from the middle, in units of the farthest ball's end, of states in no ball.
_OUTSIDE = 1.1

# With P the orthonormal principal directions, a the state and b the centre,
#
#     |a - b|^2 >= |P'(a - b)|^2 + (|a - PP'a| - |b - PP'b|)^2,
#
# so the places (P'a, |a - PP'a|) are no farther apart than the states. A place lies within r of
# another where p.q - |p|^2 / 2 + (r^2 - |q|^2) / 2 >= 0, one product of longer vectors. Lengths are
# at most about 1 here. Rounding makes places wrong by 4 sqrt(m) (d + 16) u times their lengths,
# which is added to r, and the sum of products by (m + 16) u times the sum of magnitudes, 4 at most
# (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).


class Balls:
    """Balls of given centres and radii.

    Parameters
    ----------
    centers
        `[k, d]` finite, k >= 1, of a size whose squares neither overflow nor vanish.
    radii
        `[k]` > 0.

    Attributes
    ----------
    order
        `[k]` a permutation that puts balls that lie together side by side, in blocks of `BLOCK`.
    """

    def __init__(self, centers: Array, radii: Array) -> None:
        self._middle = torch.from_numpy(np.median(_some(centers), axis=0))
        apart = np.linalg.norm(centers - self._middle.numpy(), axis=1)
        self._size = power_of_two(float((apart + radii).max()))
        self._kind, self._basis = torch.float64, None
        away, reach = self._away(torch.from_numpy(centers)), radii / self._size
        basis = _directions(away.numpy(), reach)
        for kind in (torch.float64, torch.float32):
            wrong, slack = _rounding(kind, centers.shape[1], basis)
            if kind == torch.float64 or (
                float32_is_kept() and max(wrong / 0.05, (slack / 0.05) ** 0.5) < np.median(reach)
            ):
                self._kind, self._wrong, self._slack = kind, wrong, slack
        self._basis = None if basis is None else basis.to(self._kind)
        places = self._places(torch.from_numpy(centers)).double()
        self.order = _together(np.column_stack([places.numpy(), reach]))
        self._index(places[self.order], torch.from_numpy(reach[self.order]) + self._wrong)

    def _index(self, places: Tensor, reach: Tensor) -> None:
        """Prepare what a state's place is multiplied with: of each ball, of a ball per block."""
        parts = list(zip(torch.split(places, BLOCK), torch.split(reach, BLOCK), strict=True))
        middles = torch.stack([part.mean(dim=0) for part, _ in parts])
        ends = [
            (torch.linalg.vector_norm(part - middle, dim=1) + end).max()
            for (part, end), middle in zip(parts, middles, strict=True)
        ]
        self._blocks = self._for_balls(middles, torch.stack(ends))
        self._balls = torch.split(self._for_balls(places, reach), BLOCK)

    def _for_balls(self, places: Tensor, reach: Tensor) -> Tensor:
        offset = (reach.square() - places.square().sum(dim=1)) / 2 + self._slack
        wide = torch.cat([places, offset[:, None], torch.ones_like(offset)[:, None]], dim=1)
        return wide.to(self._kind)

    def candidates(self, states: Tensor) -> Iterator[tuple[int, Tensor, NDArray[np.bool_]]]:
        """Yield what is not ruled out, in ascending order of blocks.

        Of float64 `states [n, d]`: the first of a block's balls (in `order`), the numbers `[m]` of
        states, and for each of them and each ball of the block whether it may hold it, `[m, b]`.
        """
        asked = torch.cat([self._asked(part) for part in torch.split(states, _ROWS)])
        near = np.empty((len(self._blocks), len(states)), dtype=np.bool_)
        for first in range(0, len(states), rows := max(1, _TILE // len(self._blocks))):
            scores = product(self._blocks, asked[first : first + rows])
            np.greater(scores.numpy(), 0, out=near[:, first : first + rows])
        for number in np.flatnonzero(near.any(axis=1)).tolist():
            for rows_near in torch.split(torch.from_numpy(np.flatnonzero(near[number])), _ROWS):
                scores = product(asked.index_select(0, rows_near), self._balls[number])
                yield number * BLOCK, rows_near, scores.numpy() > 0

    def _away(self, states: Tensor) -> Tensor:
        return (states - self._middle) / self._size

    def _places(self, states: Tensor) -> Tensor:
        away = self._away(states).to(self._kind)
        if self._basis is None:
            return away
        main = product(away, self._basis)
        rest = away - product(main, self._basis.T.contiguous())
        return torch.cat([main, torch.linalg.vector_norm(rest, dim=1, keepdim=True)], dim=1)

    def _asked(self, states: Tensor) -> Tensor:
        places = self._places(states)
        squared = places.square().sum(dim=1, keepdim=True)
        # What is far out may overflow: it compares as in no ball.
        last = torch.where(squared <= _OUTSIDE, squared / -2, -torch.inf)
        return torch.cat([places, torch.ones_like(last), last], dim=1)


def _some(rows: Array) -> Array:
    return rows[:: max(1, len(rows) // _SAMPLE)]


def _rounding(kind: torch.dtype, width: int, basis: Tensor | None) -> tuple[float, float]:
    """Return by how much a distance of places can be wrong, and half the square of one."""
    unit = torch.finfo(kind).eps / 2
    if basis is None:
        return 4 * unit, 4 * (width + 16) * unit
    count = len(basis)
    return 9 * count**0.5 * (width + 16) * unit, 4 * (count + 17) * unit


def _directions(centers: Array, radii: Array) -> Tensor | None:
    """Return the principal directions `[m, d]` that rule out most for their number.

    None where it takes all of them. Every ball is asked about the centres of others.
    """
    sample, reach = _some(centers), _some(radii)
    every = np.linalg.svd(sample, full_matrices=False)[2]
    width = centers.shape[1]
    costs = {width: _cost(sample, reach, width, width)}
    for count in _WIDTHS:
        if count < len(every):
            main = sample @ every[:count].T
            rest = np.linalg.norm(sample - main @ every[:count], axis=1)
            costs[count] = _cost(np.column_stack([main, rest]), reach, count + 1, width)
    best = min(costs, key=lambda count: costs[count])
    return None if best == width else torch.from_numpy(every[:best].copy())


def _cost(places: Array, reach: Array, count: int, width: int) -> float:
    squared = np.square(places).sum(axis=1)
    near = squared[:, None] + squared - 2 * places @ places.T < np.square(reach)
    return count + _LEFT_OVER * width * float(near.mean() - 1 / len(places))


def _together(points: Array) -> NDArray[np.int64]:
    """Return an order `[k]` that puts near `points [k, m]` side by side: halves of halves.

    Every cut is a multiple of `BLOCK`, across the longest side.
    """
    order, todo = np.arange(len(points)), [(0, len(points))]
    while todo:
        first, end = todo.pop()
        if end - first <= BLOCK:
            order[first:end].sort()
            continue
        part = points[order[first:end]]
        side = part[:, np.argmax(part.max(axis=0) - part.min(axis=0))]
        cut = -(-(end - first) // BLOCK) // 2 * BLOCK
        order[first:end] = order[first:end][np.argpartition(side, cut)]
        todo += [(first, first + cut), (first + cut, end)]
    return order
