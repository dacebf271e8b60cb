"""Which of many points may be near a query: most are ruled out a cell at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.products import bounding, for_bounds, kth_highest, product, rounding, slack_of

# Points in a cell, where there are up to 2^16 of them; more where there are more.
_SIZE = 64
# So many numbers are held at a time, and so many answers for a query and a cell.
_TILE, _PAIRS = 2**20, 2**26
# Every so-manieth query tells whether cells rule out enough.
_STEP = 16
# A query with more candidates is not settled.
_MOST = 256

# A cell's points p lie within r of its centre c. The k nearest of a query q that are known have
# scores q.p - |p|^2 / 2 of at least s, so they lie within t of it, t^2 = |q|^2 - 2 s. No point of
# the cell can be nearer where |q - c| > t + r, which is
#
#     q.c + t r + (r^2 - |c|^2) / 2 < s,
#
# one product of longer vectors.


class Cells:
    """Points in cells that lie together.

    Parameters
    ----------
    points
        `[n, d]` finite float64 points, n >= 1, in units of their spread, around 0.
    """

    def __init__(self, points: Tensor) -> None:
        self.size = _SIZE * max(1, round((len(points) / 2**16) ** 0.5))
        order = _in_cells(points.numpy(), self.size)
        # The last cell is filled up with what is nobody's neighbour.
        some = -len(points) % self.size
        self._numbers = np.append(order, np.full(some, len(points)))
        cells = points[torch.from_numpy(np.append(order, np.full(some, order[-1])))]
        self._points = for_bounds(cells, torch.float32).float()
        self._points[len(points) :] = torch.tensor([0.0] * (points.shape[1] + 1) + [-1e30])
        self._points = self._points.view(-1, self.size, points.shape[1] + 2)
        centres, radii = _enclosing(cells.view(-1, self.size, points.shape[1]))
        self._centres = for_bounds(centres).float()
        self._balls = _balls(centres, radii[:, None])

    def near(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what may be among the k nearest to `queries [m, d]`, all within 1e9 of 0.

        Returns
        -------
        settled
            `[m]` whether all candidates of a query are named; none are where they would be many.
        rows, numbers
            `[c]` the query and the point of each candidate.
        """
        settled = torch.zeros(len(queries), dtype=torch.bool)
        none = torch.empty(0, dtype=torch.int64)
        if 2 * k > self.size or not self._pays(queries, k):
            return settled, none, none
        found = []
        for start in range(0, len(queries), self._rows(_PAIRS)):
            part = slice(start, start + self._rows(_PAIRS))
            settled[part], rows, numbers = self._candidates(queries[part], k)
            found.append((rows + start, numbers))
        rows, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
        return settled, rows, numbers

    def _rows(self, numbers: int) -> int:
        return max(1, numbers // len(self._points))

    def _pays(self, queries: Tensor, k: int) -> bool:
        """Tell whether a quarter of the queries or more need look into half the cells at most."""
        some = queries[::_STEP]
        parts = [self._left(part, k)[0].sum(dim=0) for part in torch.split(some, self._rows(_TILE))]
        return bool((2 * torch.cat(parts) <= len(self._points)).double().mean() >= 1 / 4)

    def _left(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return which cells are left `[g, m]`, what multiplies points `[m, d + 2]`, s `[m]`."""
        upper, lower = bounding(queries, torch.float32)
        closest = torch.from_numpy(product(upper, self._centres).numpy().argmax(axis=1))
        inside = self._points.view(len(self._points), -1).index_select(0, closest)
        scores = torch.bmm(inside.view(len(queries), self.size, -1), lower[:, :, None])[:, :, 0]
        margin = rounding(queries)
        least = kth_highest(scores, k) - 2 * margin
        reach = (queries.square().sum(dim=1) - 2 * (least - margin)).clamp(min=0).sqrt()
        least = torch.nextafter(least.float(), torch.tensor(-torch.inf))
        longer = torch.cat([queries, reach[:, None]], dim=1)
        norm = torch.linalg.vector_norm(longer, dim=1, keepdim=True)
        longer = torch.cat([longer, norm, torch.ones_like(norm)], dim=1).float()
        # numpy compares in a tenth of the time that torch takes.
        left = product(self._balls, longer).numpy() >= least.numpy()
        return torch.from_numpy(left), upper, least

    def _candidates(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        parts = [self._left(part, k) for part in torch.split(queries, self._rows(_TILE))]
        left = torch.cat([part[0] for part in parts], dim=1).numpy()
        upper, least = (torch.cat([part[i] for part in parts]) for i in (1, 2))
        # All points in order are looked at sooner than most cells are.
        left &= 2 * left.sum(axis=0) <= len(left)
        settled, count = left.any(axis=0), np.zeros(len(queries), dtype=np.int64)
        rows, numbers = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for cell, asking in enumerate(left):
            asked = np.flatnonzero(asking & (count <= _MOST))
            if not len(asked):
                continue
            # Not by `product`: oneDNN prepares itself anew for every number of queries.
            scores = self._points[cell] @ upper.index_select(0, torch.from_numpy(asked)).T
            enough = least.numpy()[asked]
            some = np.flatnonzero(scores.amax(dim=0).numpy() >= enough)
            asked = asked[some]
            among = scores.index_select(1, torch.from_numpy(some)).numpy() >= enough[some]
            count[asked] += among.sum(axis=0)
            place, which = np.nonzero(among)
            rows.append(asked[which])
            numbers.append(self._numbers[cell * self.size + place])
        settled &= count <= _MOST
        row, number = np.concatenate(rows), np.concatenate(numbers)
        kept = settled[row]
        found = torch.from_numpy(row[kept]), torch.from_numpy(number[kept])
        return torch.from_numpy(settled), *found


def _balls(centres: Tensor, radii: Tensor) -> Tensor:
    """Return what bounds scores in balls `[g, d + 3]`, as `for_bounds` does those of points."""
    longer = torch.cat([centres, radii], dim=1)
    slack = slack_of(longer.shape[1], torch.float32)
    norm = torch.linalg.vector_norm(longer, dim=1, keepdim=True)
    halves = (radii.square() - centres.square().sum(dim=1, keepdim=True)) / 2
    return torch.cat([longer, slack * norm, halves + slack * norm.square() / 2], dim=1).float()


def _enclosing(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres `[g, d]` and radii `[g]` of nearly the least balls around cells `[g, s, d]`.

    A centre moves ever less towards the farthest point (Badoiu & Clarkson, Smaller core-sets for
    balls, 2003), from the middle of the cell.
    """
    centres = (cells.amin(dim=1) + cells.amax(dim=1)) / 2
    for step in range(2, 10):
        far = torch.linalg.vector_norm(cells - centres[:, None], dim=2).argmax(dim=1)
        centres += (cells[torch.arange(len(cells)), far] - centres) / (step + 1)
    return centres, torch.linalg.vector_norm(cells - centres[:, None], dim=2).amax(dim=1)


def _in_cells(points: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return row numbers `[n]` in an order in which every `size` consecutive points lie together.

    All are parted in two along nearly their principal direction, and so on.
    """
    order, parts = np.arange(len(points)), [(0, len(points))]
    points = points.astype(np.float32)
    while parts:
        start, end = parts.pop()
        if end - start <= size:
            continue
        some = points[order[start:end]]
        some -= some.mean(axis=0)
        direction = some[np.square(some).sum(axis=1).argmax()]
        for _ in range(3):
            direction = some.T @ (some @ direction)
            direction /= max(float(np.linalg.norm(direction)), 1e-30)
        middle = size * round((end - start) / size / 2)
        along = (some @ direction).argpartition(middle)
        order[start:end] = order[start:end][along]
        parts += [(start, start + middle), (start + middle, end)]
    return order
