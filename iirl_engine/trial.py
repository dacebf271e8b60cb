"""Whether a candidate may be released, and if not, which part of it may.

Whatever the gates say, no candidate passes that reopens a closed flaw or takes more off a
known-good state than the strictest cap allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.chain import Step
from iirl_engine.corrections.base import Correction
from iirl_engine.demonstrations import read_only
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.judge import judgements
from iirl_engine.knowngood import KnownGood
from iirl_engine.mended import Attempt
from iirl_engine.pieces import Piece, at_fault, effects, put_together, take_apart
from iirl_engine.records import Flaws
from iirl_engine.reward import RewardModel

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# Candidates that are judged in a round at most.
ATTEMPTS = 16
# Rewards are sums of floats: a loss of exactly the cap may show a last digit above it.
_ROUNDING = 1e-9
# Flaws at which the pieces of a refused candidate are told apart, and states to find a fault by.
_SOME = 1000


@attrs.frozen(eq=False)
class Turn:
    """The flaws of a round and the reward that has them.

    Parameters
    ----------
    number
        Of the round.
    model
        The newest released reward.
    unreleased
        Whether that is the reward as learned.
    flaws
        All flaws of the run, the open ones with their region.
    was_open, is_new
        `[m]` whether `model` endorses each, and whether this round found it.
    regions
        Rows of the open flaws of each region, the worst first.
    is_last
        Whether the run allows no further round.
    """

    number: int
    model: RewardModel
    unreleased: bool
    flaws: Flaws
    was_open: Mask
    is_new: Mask
    regions: Sequence[Rows]
    is_last: bool = False


@attrs.frozen(eq=False)
class Trial:
    """A candidate that was judged: its reward, what it added, and what was said of it."""

    model: RewardModel
    added: tuple[Correction, ...]
    judgements: tuple[Judgement, ...]
    is_open: Mask

    @property
    def ok(self) -> bool:
        """Whether nothing refused it."""
        return all(judgement.ok for judgement in self.judgements)

    @property
    def refusals(self) -> list[Judgement]:
        """The judgements that refuse it."""
        return [judgement for judgement in self.judgements if not judgement.ok]


class Trials:
    """The candidates of one round, each judged by gates and by what no release may do.

    Parameters
    ----------
    turn
        The flaws of the round and the reward that has them.
    gates
        (step, gate), in the order of the chain.
    good
        The known-good states, with the cap on their loss.
    evidence
        What is the same for every candidate of the round.
    seed
        Of the run.
    progress, log
        Told of how the work proceeds, and of what is worth keeping.
    """

    def __init__(
        self,
        turn: Turn,
        gates: Sequence[tuple[Step, Any]],
        good: KnownGood,
        evidence: Evidence,
        seed: int,
        progress: Callable[[str], None],
        log: Callable[[str], None],
    ) -> None:
        self.turn, self.gates, self.good, self.evidence = turn, gates, good, evidence
        self.seed, self.progress, self.log = seed, progress, log
        self.attempts: list[Attempt] = []
        self.refused: list[Trial] = []

    def judge(
        self,
        model: RewardModel,
        asked: Mask,
        withheld: Mask,
        *,
        instead_of: Trial | None = None,
        shortly: bool = False,
    ) -> Trial:
        """Have a candidate judged.

        Parameters
        ----------
        asked, withheld
            `[m]` the flaws that it is to close, and those among them that no refiner was shown.
        instead_of
            A refused candidate that it is a part of: what that closes and this does not is given
            up, and not asked for.
        shortly
            End at the first refusal.
        """
        added = self.added(model)
        is_open = self.is_open(model, self.turn.flaws)
        if instead_of is not None:
            kept = ~is_open | instead_of.is_open
            asked, withheld = asked & kept, withheld & kept
        evidence = attrs.evolve(self.evidence, asked=read_only(asked), withheld=read_only(withheld))
        candidate = Candidate(self.turn.number, added, model)
        said: list[Judgement] = []
        for judgement in judgements(self.gates, candidate, evidence, self.seed, self.log):
            said.append(judgement)
            if shortly and not judgement.ok:
                break
        if all(judgement.ok for judgement in said):
            said += self.broken(model)
        trial = Trial(model, added, tuple(said), is_open)
        refusal = next(iter(trial.refusals), None)
        self.attempts.append(
            Attempt(
                corrections=sum(c.count for c in added),
                closes=int((self.turn.was_open & ~is_open).sum()),
                ok=trial.ok,
                refused_by="" if refusal is None else refusal.gate,
                reason="" if refusal is None else refusal.reason,
            )
        )
        if refusal is not None:
            self.refused.append(trial)
        return trial

    def largest_part(self, whole: Trial, asked: Mask, withheld: Mask) -> Trial | None:
        """Return the largest part of a refused candidate that passes, as far as attempts go.

        Tried first is what no gate blames; then what it blames is added by halves, as far as it
        passes, the largest first (adaptive group testing). Neighbours stay together as long as they
        can.
        """
        pieces = self._by_region(whole)
        blamed = {name for judgement in whole.refusals for name in judgement.blames or ()}
        free = [piece for piece in pieces if piece.name not in blamed]
        at = [piece for piece in pieces if piece.name in blamed]
        queue = [free, at] if free and at else _halves(pieces)
        kept, best, refused = list[Piece](), None, {frozenset(pieces)}
        while queue and len(self.attempts) < ATTEMPTS - 1:
            part = queue.pop(0)
            if frozenset(kept + part) in refused:
                queue = sorted([*queue, *_halves(part)], key=len, reverse=True)
                continue
            added = put_together(whole.added, kept + part)
            model = self.turn.model.with_corrections(added)
            trial = self.judge(model, asked, withheld, instead_of=whole, shortly=True)
            if trial.ok:
                kept, best = kept + part, trial
            else:
                refused.add(frozenset(kept + part))
                queue = sorted([*queue, *_halves(part)], key=len, reverse=True)
        closes = best is not None and (self.turn.was_open & ~best.is_open).any()
        if closes:
            self.progress(f"round {self.turn.number}: {len(kept):,} of {len(pieces):,} pieces pass")
        return best if closes else None

    def broken(self, model: RewardModel) -> list[Judgement]:
        """Return what no release may do, whatever the gates say, as a refusal; or nothing."""
        good = self.good
        is_open = self.is_open(model, self.turn.flaws)
        lost = good.original - model(good.states)
        over = np.flatnonzero(~(lost <= good.cap + _ROUNDING))
        reopened = int((is_open & ~self.turn.was_open).sum())
        numbers = {"reopened": float(reopened), "over": float(len(over)), "cap": good.cap}
        if reopened:
            reason = f"closed flaws that would reopen: {reopened}"
            return [Judgement("engine", False, numbers, reason)]
        if len(over):
            worst = over[np.argsort(-lost[over], kind="stable")][:_SOME]
            reason = (
                f"known-good states that lose more than {good.cap:g} since release 0: "
                f"{len(over)}; the worst loses {lost.max():.3g}"
            )
            blames = at_fault(
                self.added(model),
                model,
                good.states[worst],
                good.original[worst] - good.cap,
            )
            return [Judgement("engine", False, numbers, reason, blames or None)]
        return []

    def added(self, model: RewardModel) -> tuple[Correction, ...]:
        """Return the corrections that the newest release does not have."""
        former = {id(correction) for correction in self.turn.model.corrections}
        return tuple(c for c in model.corrections if id(c) not in former)

    def is_open(self, model: RewardModel, flaws: Flaws) -> Mask:
        """Return which flaws a reward endorses."""
        if not len(flaws):
            return np.zeros(0, dtype=np.bool_)
        return np.asarray(model(flaws.states) > self.evidence.floor)

    def _by_region(self, whole: Trial) -> list[Piece]:
        """Return the pieces of a candidate, those next to each other that act on one region."""
        pieces = take_apart(whole.added, whole.model)
        places = {row: i for i, rows in enumerate(self.turn.regions) for row in rows.tolist()}
        rows = np.flatnonzero(self.turn.was_open)
        rows = rows[:: 1 + len(rows) // _SOME]
        taken = effects(whole.added, pieces, whole.model, self.turn.flaws.states[rows])
        most = taken.argmax(axis=0)
        region = [places.get(int(rows[row]), len(places)) for row in most]
        order = sorted(range(len(pieces)), key=lambda i: (region[i], pieces[i]))
        return [pieces[i] for i in order]


def _halves(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Return two halves; nothing where there is nothing to halve."""
    middle = len(pieces) // 2
    return [list(pieces[:middle]), list(pieces[middle:])] if middle else []
