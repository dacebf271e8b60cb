"""Branch and bound: boxes are halved until each is proved, refuted, or the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_certify.boxes import Array, Boxes, Region, frames
from iirl_certify.ceiling import Ceiling
from iirl_engine.certificate import Reward, box

Answer = Literal["proved", "counterexample", "undecided"]

_ROWS = 1024
# Codes of nodes: axes are counted from 1.
_OPEN, _LEAF = -1, 0
# Characters of a tree count from "0"; so many are well short of those that stand for no character.
_MOST_AXES = 10_000
# An axis shorter than this share of the longest is not halved; among equals the longer one is.
_SHORT, _LENGTH = 0.5, 1e-6
# A box is not halved below this share of its region.
_SMALLEST = 1e-9


@attrs.frozen(eq=False)
class Judged:
    """What became of one region.

    Parameters
    ----------
    answer
        `proved`: every leaf is confirmed by the checker. `counterexample`: a forbidden state with
        a reward above the floor is known. `undecided`: the budget ended before.
    tree
        The nodes in preorder, a character each, as a certificate has them; empty unless proved.
    leaves
        How many there are.
    boxes
        How many were bounded.
    settled
        Share of the region's volume that the prover has proved.
    ended
        Nothing was left open: false when the budget ended first, or a search that does not go on
        after a counterexample stopped at one.
    """

    answer: Answer
    tree: str
    leaves: int
    boxes: int
    settled: float
    ended: bool


@attrs.frozen(eq=False)
class Search:
    """A reward as branch and bound sees it.

    Parameters
    ----------
    ceiling
        The prover's upper bounds.
    checker
        The checker's. They take longer than the prover's, so that it is asked at the end, and only
        about what would be proved; a leaf that it does not confirm is halved further.
    reward, violations
        From states `[n, d]` to R `[n]`, and to each norm's violation `[n]`.
    floor, margin
        Of the claim.
    afford
        Asked before so many queries are made; returns how many of them may be.
    pay
        Called with the number of boxes that are bounded next, one query each.
    """

    ceiling: Ceiling
    checker: Reward
    reward: Callable[[Tensor], Tensor]
    violations: Callable[[Tensor], dict[str, Tensor]]
    floor: float
    margin: float
    afford: Callable[[int], int] = lambda asked: asked
    pay: Callable[[int], None] = lambda count: None

    def run(
        self,
        regions: Sequence[Region],
        *,
        width: int,
        budget: int | None = None,
        go_on: bool = False,
    ) -> Generator[Tensor, None, list[Judged]]:
        """Judge regions of one dimension, generation by generation; yield counterexamples `[m, d]`.

        Parameters
        ----------
        regions
            All of them with the same number of axes.
        width
            Number of features.
        budget
            Boxes that one region may cost; None for any number.
        go_on
            Whether a region is searched on for more, once it has a counterexample.

        Raises
        ------
        ValueError
            When boxes have more axes than a certificate can name.
        """
        if len(regions[0].low) > _MOST_AXES:
            raise ValueError(f"a box of more than {_MOST_AXES} axes; try a slice of fewer")
        count = len(regions)
        origins, axes = frames(regions, width)
        low, high = (np.array([getattr(r, side) for r in regions]) for side in ("low", "high"))
        widest = np.maximum(high - low, np.finfo(float).tiny)
        nodes = _Nodes(count)
        of = np.arange(count)
        ids = np.arange(count)
        spent, refuted = np.zeros(count, np.int64), np.zeros(count, bool)
        halted, settled = np.zeros(count, bool), np.zeros(count)
        shared = all(r.axes is None for r in regions)
        taken: list[tuple[Any, ...]] = []
        while len(ids):
            following: list[_Batch] = []
            for start in range(0, len(ids), _ROWS):
                part = slice(start, start + _ROWS)
                part_of = of[part]
                going = ~halted[part_of] & (go_on | ~refuted[part_of])
                # Within a region, boxes of one batch beyond its budget wait no longer: it ends.
                rank = _rank_within(part_of)
                within = spent[part_of] + rank < (np.inf if budget is None else budget)
                halted[part_of[~going | ~within]] = True
                keep = np.flatnonzero(going & within)
                allowed = self.afford(2 * len(keep)) // 2
                if allowed < len(keep):
                    halted[part_of[keep[allowed:]]] = True
                    keep = keep[:allowed]
                if not len(keep):
                    continue
                rows = part_of[keep]
                np.add.at(spent, rows, 1)
                lows, highs, names = low[part][keep], high[part][keep], ids[part][keep]
                frame = (origins[:1], axes[:1]) if shared else (origins[rows], axes[rows])
                batch = Boxes.between(lows, highs, *frame)
                self.pay(len(keep))
                bound = self.ceiling(batch)
                done = (bound.allowed | (bound.ceiling <= self.floor)).numpy()
                axis = _loosest(bound.slack.numpy(), highs - lows, widest[rows])
                nodes.settle(names[done])
                share = np.prod((highs - lows) / widest[rows], axis=1)
                np.add.at(settled, rows[done], share[done])
                parts = (lows, highs, names, rows, axis, share)
                taken.append(tuple(part[done] for part in parts))
                left = np.flatnonzero(~done)
                middle = batch.middle()[left]
                found = self._forbidden(middle)
                if found.any():
                    yield middle[torch.from_numpy(found)]
                    refuted[rows[left[found]]] = True
                    left = left[~found]
                parts = tuple(each[left] for each in parts[:-1])
                following.append(_halves(nodes, halted, widest, *parts))
            if not any(len(batch[0]) for batch in following):
                # No box is open: the checker is asked about the leaves of what would be proved.
                for parts in taken:
                    hopeful = ~(refuted | halted)[parts[3]]
                    doubted = self._doubted(*parts[:2], parts[3], hopeful, origins, axes)
                    *parts, share = (each[doubted] for each in parts)
                    np.subtract.at(settled, parts[3], share)
                    following.append(_halves(nodes, halted, widest, *parts))
                taken = []
            low, high, ids, of = _joined(following, low.shape[1])
        return [
            self._judged(nodes, region, refuted[region], halted[region], spent[region], share)
            for region, share in enumerate(settled)
        ]

    def _doubted(
        self,
        low: Array,
        high: Array,
        of: NDArray[np.int64],
        hopeful: NDArray[np.bool_],
        origins: Array,
        axes: Array,
    ) -> NDArray[np.bool_]:
        """Return which leaves the checker does not confirm, of those that it is asked about."""
        doubted = hopeful.copy()
        for row in np.flatnonzero(hopeful):
            state = box(low[row], high[row], origins[of[row]], axes[of[row]])
            doubted[row] = not self.checker.holds(state, self.floor, self.margin)
        return doubted

    def _forbidden(self, states: Tensor) -> NDArray[np.bool_]:
        """Return which states are counterexamples, by the reward and the norms themselves."""
        found = self.reward(states) > self.floor
        beyond = torch.zeros_like(found)
        for name, violation in self.violations(states).items():
            beyond |= violation > self.ceiling.limit(name)
        answer: NDArray[np.bool_] = (found & beyond).numpy()
        return answer

    def _judged(
        self, nodes: _Nodes, region: int, refuted: bool, halted: bool, spent: int, settled: float
    ) -> Judged:
        if refuted:
            return Judged("counterexample", "", 0, int(spent), float(settled), not halted)
        if halted:
            return Judged("undecided", "", 0, int(spent), float(settled), False)
        tree = nodes.preorder(region)
        return Judged("proved", tree, tree.count("0"), int(spent), 1.0, True)


class _Nodes:
    """The trees of all regions: a code for each node, and the number of its first half."""

    def __init__(self, roots: int) -> None:
        self._codes = np.full(roots, _OPEN)
        self._first = np.full(roots, _OPEN)

    def settle(self, names: NDArray[np.int64]) -> None:
        self._codes[names] = _LEAF

    def split(self, names: NDArray[np.int64], axis: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of each node's first half; the second one's is the next."""
        first = len(self._codes) + 2 * np.arange(len(names))
        self._codes[names], self._first[names] = 1 + axis, first
        fresh = np.full(2 * len(names), _OPEN)
        self._codes = np.concatenate([self._codes, fresh])
        self._first = np.concatenate([self._first, fresh])
        return first

    def preorder(self, root: int) -> str:
        stack, codes = [root], []
        while stack:
            node = stack.pop()
            code = int(self._codes[node])
            codes.append(chr(ord("0") + code))
            if code != _LEAF:
                first = int(self._first[node])
                stack += [first + 1, first]
        return "".join(codes)


def _loosest(slack: Array, length: Array, widest: Array) -> NDArray[np.int64]:
    """Return the axis to halve: of those that are not much shorter, the one with most slack.

    Slack alone would halve one axis forever where a bound is flat along the others for being loose.
    """
    size = length / widest
    long = size >= _SHORT * size.max(axis=1, keepdims=True)
    share = slack / np.maximum(slack.max(axis=1, keepdims=True), np.finfo(float).tiny)
    answer: NDArray[np.int64] = np.where(long, share + _LENGTH * size, -1.0).argmax(axis=1)
    return answer


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each item how many of its group come before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else order
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return rank


_Batch = tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]


def _halves(
    nodes: _Nodes,
    halted: NDArray[np.bool_],
    widest: Array,
    low: Array,
    high: Array,
    names: NDArray[np.int64],
    rows: NDArray[np.int64],
    axis: NDArray[np.int64],
) -> _Batch:
    """Return lower and upper corners, node and region of both halves of boxes.

    A box that is too small has none, and its region is halted.
    """
    wide = (high - low)[np.arange(len(low)), axis] > _SMALLEST * widest[rows, axis]
    halted[rows[~wide]] = True
    low, high, names, rows, axis = (each[wide] for each in (low, high, names, rows, axis))
    left, right, first = high.copy(), low.copy(), nodes.split(names, axis)
    at = np.arange(len(low)), axis
    left[at] = right[at] = low[at] / 2 + high[at] / 2
    return (
        np.concatenate([low, right]),
        np.concatenate([left, high]),
        np.concatenate([first, first + 1]),
        np.concatenate([rows, rows]),
    )


def _joined(parts: list[_Batch], axes: int) -> _Batch:
    if not parts:
        nothing = np.empty(0, np.int64)
        return np.empty((0, axes)), np.empty((0, axes)), nothing, nothing
    low, high, ids, of = (np.concatenate(each) for each in zip(*parts, strict=True))
    return low, high, ids, of
