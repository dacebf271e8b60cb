"""Unlearning: encoder and mapping become what they were without some of the demonstrations.

Exact where the encoder unlearns exactly: the result is what fitting on the rest alone leaves
(Cao & Yang, Towards making systems forget with machine unlearning, S&P 2015). Other encoders are
fitted anew on the rest, which is what exact unlearning is measured by.
"""

from __future__ import annotations

import logging

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import (
    Context,
    DataError,
    Proposal,
    Refiner,
    Repair,
    Revision,
    RewardModel,
)
from iirl_engine.demonstrations import without
from iirl_engine.learn import weighed
from iirl_engine.support import Support
from iirl_refiners.options import UnlearnOptions
from iirl_refiners.revising import revised, spares

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]

# Each flaw accuses this many of its nearest demonstrations, the farther the less.
_ACCUSED = 8
# Closing this share of what any set closes is worth no further demonstration.
_ENOUGH = 0.95
# Sets of demonstrations to try grow by this factor, from a single one; there are so many at most.
_GROWTH, _SETS = 1.25, 40
_WHY = "stays endorsed when the demonstrations nearest to it are forgotten"


class Unlearn(Refiner[UnlearnOptions]):
    """Forgets the demonstrations that are named, or else those that stand behind open flaws."""

    needs = frozenset({"unlearn"})
    tidies = True

    def __init__(self, options: UnlearnOptions) -> None:
        super().__init__(options)
        if options.refit:
            self.needs = frozenset()  # type: ignore[misc]

    def propose(self, repair: Repair, context: Context) -> Proposal:
        asked = named(repair.model, self.options.rows, self.options.episodes)
        known = forgotten(repair.model)
        if len(asked):
            if np.isin(asked, known).all():
                return Proposal()
            return revised(repair, [self._revision(repair.model, asked, context)], _WHY)
        tried = [
            revised(repair, [self._revision(repair.model, rows, context)], _WHY)
            for rows in self._suspected(repair, known)
        ]
        fine = [one for one in tried if spares(repair, one, self.options.max_loss) and one.closes]
        if fine:
            # Sets come in the order of their size: as few as close nearly all that any closes.
            enough = _ENOUGH * max(one.closes or 0 for one in fine)
            return next(one for one in fine if (one.closes or 0) >= enough)
        why = "forgetting the demonstrations nearest to the flaws closes none within max_loss"
        return Proposal(left=dict.fromkeys(range(len(repair.flaws)), why))

    def _suspected(self, repair: Repair, known: Rows) -> list[Rows]:
        """Return sets of rows to try, from one row on, each some larger than the one before."""
        rows = np.setdiff1d(np.arange(len(repair.model.demonstrations.states)), known)
        most = max(1, int(self.options.most * len(rows)))
        if not len(repair.flaws) or most >= len(rows):
            return []
        order = rows[accused(repair.model.demonstrations.states[rows], repair.flaws.states)]
        largest = min(most, len(order))
        # Fitting anew takes its time.
        growth = _GROWTH if repair.model.learned[0].abilities.unlearning else 4.0
        sizes = sorted({min(round(growth**power), largest) for power in range(_SETS)})
        return [np.sort(order[:size]) for size in sizes]

    def _revision(self, model: RewardModel, rows: Rows, context: Context) -> Revision:
        rows = np.union1d(rows, forgotten(model))
        new = revision(model, rows, context)
        if not model.learned[0].abilities.unlearning:
            self._tell_accuracy(model, new, context)
        return new

    def _tell_accuracy(self, model: RewardModel, first: Revision, context: Context) -> None:
        """Log how far two fits on the rest lie apart: a refit is known no better than that."""
        data = model.demonstrations
        other = revision(model, first.rows, attrs.evolve(context, id=f"{context.id}-again"))
        one, two = (model.evolve(corrections=(part,)) for part in (first, other))
        held_out = data.held_out if len(data.held_out) else first.rest(data).states
        for what, states in (("retained", held_out), ("forgotten", data.states[first.rows])):
            apart = float(np.abs(one(states) - two(states)).mean())
            log.info("two fits on the rest differ by %.3g on %s states", apart, what)


def revision(model: RewardModel, rows: Rows, context: Context) -> Revision:
    """Return encoder and mapping without the demonstrations of some rows.

    Parameters
    ----------
    model
        The reward; its encoder unlearns if it can, or is else fitted anew.
    rows
        `[m]` rising.
    """
    data = model.demonstrations
    rest = without(data, rows)
    old, curve = model.learned
    encoder, mapping = type(old)(old.options), type(curve)(curve.options)
    weights = weighed(model, rest)
    if old.abilities.unlearning:
        encoder.restore({name: tensor.clone() for name, tensor in old.tensors().items()}, data)
        encoder.unlearn(weights)
    else:
        encoder.fit(weights, attrs.evolve(context, kind="encoder"))
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(rest.states)).loss
    mapping.fit(loss, attrs.evolve(context, kind="mapping"))
    id = f"r{context.round}-{context.id}"
    return Revision.of(encoder, mapping, rows, id=id, refiner=context.id, round=context.round)


def forgotten(model: RewardModel) -> Rows:
    """Return the rows of the demonstrations that a reward has forgotten, rising."""
    found = [c.rows for c in model.corrections if isinstance(c, Revision)]
    return found[-1] if found else np.empty(0, dtype=np.int64)


def named(
    model: RewardModel, rows: tuple[int, ...] | None, episodes: tuple[int, ...] | None
) -> Rows:
    """Return the rows that are named, and those of the episodes that are, rising.

    Raises
    ------
    DataError
        When there are no such rows or episodes, or no others.
    """
    data = model.demonstrations
    count = len(data.states)
    if wrong := [row for row in rows or () if not 0 <= row < count]:
        raise DataError(f"refiner unlearn is to forget row {wrong[0]} of {count} demonstrations")
    found = np.zeros(count, dtype=np.bool_)
    found[list(rows or ())] = True
    if episodes:
        there = [] if data.episode is None else np.unique(data.episode).tolist()
        if unknown := [name for name in episodes if name not in there]:
            raise DataError(
                f"refiner unlearn is to forget episode {unknown[0]}, which there is not",
                known=there[:10] or "the demonstrations have no episodes",
            )
        found |= np.isin(data.episode, episodes)
    if found.all():
        raise DataError("refiner unlearn is to forget every demonstration")
    return np.flatnonzero(found)


def accused(states: NDArray[np.float64], flaws: NDArray[np.float64]) -> Rows:
    """Return rows of demonstrations `[n, d]`, those that most flaws `[m, d]` lie next to first.

    The k-th nearest of a flaw is accused by 1 / k; rows that no flaw accuses are left out.
    """
    count = min(_ACCUSED, len(states))
    near = Support(np.array(states)).neighbours(torch.tensor(flaws), count)[1].numpy()
    shares = np.tile(1 / np.arange(1, count + 1), len(flaws))
    votes = np.bincount(near.ravel(), weights=shares, minlength=len(states))
    return np.argsort(-votes, kind="stable")[: int((votes > 0).sum())]
