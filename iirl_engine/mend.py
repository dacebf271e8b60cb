"""How open flaws become a candidate that may be released.

Refiners are asked in turn, each about what those before it left open; what they propose together
is judged, and where it is refused, the largest part that passes is sought.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context
from iirl_engine.blame import blame
from iirl_engine.chain import Step
from iirl_engine.chain_file import Settings
from iirl_engine.conflicts import conflicts, contradictions
from iirl_engine.corrections.base import Correction
from iirl_engine.counted import count
from iirl_engine.demonstrations import read_only
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.judge import vetoes
from iirl_engine.knowngood import KnownGood
from iirl_engine.mended import Attempt, Conflict, Prediction
from iirl_engine.pieces import put_together, take_apart
from iirl_engine.plugins import Plugins
from iirl_engine.predictions import Expected, expected, prediction
from iirl_engine.propose import Proposed, propose
from iirl_engine.records import Flaws
from iirl_engine.repair import Repair
from iirl_engine.reward import RewardModel
from iirl_engine.trial import ATTEMPTS, Trial, Trials, Turn
from iirl_engine.withheld import withhold

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# Of the withheld flaws, the share that may stay open until the next round.
_FEW = 0.01
# What corrections are called that close the flaws which were withheld at first.
_AGAIN = "-again"


@attrs.frozen(eq=False)
class Mended:
    """What a round's flaws led to.

    Parameters
    ----------
    model
        What may be released; None when nothing may.
    judgements
        Of the candidate that may be released, or else of the first that was refused.
    vetoes, predictions, attempts, conflicts
        As in `Round`.
    reasons
        Id of each flaw that stays open -> why.
    closed_by
        Id of each flaw that closes -> id of the correction that does most of it.
    """

    model: RewardModel | None = None
    judgements: tuple[Judgement, ...] = ()
    vetoes: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    reasons: Mapping[str, str] = attrs.field(factory=dict)
    closed_by: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Mender:
    """Who mends the reward of a run: its refiners, triage and gates.

    Parameters
    ----------
    refiners, gates
        (step, strategy), in the order of the chain.
    triage
        (step, strategy).
    plugins
        Whose vetoes count.
    settings
        Of the chain.
    first
        Release 0.
    good
        The known-good states, with the cap on their loss.
    contested
        `[k, d]` what the source calls known good, whether a norm forbids it or not.
    data
        Fingerprint of the demonstrations.
    progress
        Told a line of text as the work proceeds.
    log
        Told of the number of the round, and what is worth keeping of it.
    """

    refiners: Sequence[tuple[Step, Any]]
    gates: Sequence[tuple[Step, Any]]
    triage: tuple[Step, Any]
    plugins: Plugins
    settings: Settings
    first: RewardModel
    good: KnownGood
    contested: NDArray[np.float64]
    data: str
    progress: Callable[[str], None]
    log: Callable[[int, str], None]

    def mend(self, turn: Turn) -> Mended:
        """Propose corrections for the open flaws, and return what of them may be released."""
        return _Mending(self, turn).mended()


class _Mending:
    """One round's work of a mender."""

    def __init__(self, mender: Mender, turn: Turn) -> None:
        self.by, self.turn = mender, turn
        self.floor = mender.settings.floor
        self.asked: list[tuple[Proposed, Expected, Mask]] = []
        self.log = functools.partial(mender.log, turn.number)
        self.evidence = Evidence(
            current=turn.model,
            flaws=turn.flaws,
            was_open=read_only(turn.was_open),
            known_good=mender.good.states,
            original=mender.good.original,
            floor=self.floor,
            data=mender.data,
            first=mender.first,
            held_out=mender.good.held_out,
        )
        self.trials = Trials(
            turn,
            mender.gates,
            mender.good,
            self.evidence,
            mender.settings.seed,
            mender.progress,
            self.log,
        )

    def mended(self) -> Mended:
        """Return what the round's flaws led to."""
        by, turn = self.by, self.turn
        contested = contradictions(by.contested, by.first, by.good.cap, self.floor)
        if not turn.was_open.any():
            # Nothing to mend. The reward as learned may become stable now, unless vetoed.
            unchanged = Candidate(0, (), turn.model)
            return Mended(
                vetoes=vetoes(by.plugins, unchanged, self.evidence, self.log)
                if turn.unreleased
                else (),
                conflicts=tuple(contested),
            )
        open_rows = np.flatnonzero(turn.was_open)
        clashes = conflicts(turn.flaws, open_rows, turn.model, by.good, self.floor)
        for conflict in (*contested, *clashes.values()):
            by.progress(f"round {turn.number}: cannot be met: {conflict.text}")
        asked = turn.was_open.copy()
        asked[list(clashes)] = False
        withheld = withhold(turn.flaws, turn.regions, turn.is_new) & asked

        best = self._best(asked, withheld)
        said = best or (self.trials.refused[0] if self.trials.refused else None)
        missed = withheld & (best.is_open if best else False)
        for trial in self.trials.refused:  # what was given up is not asked for again
            missed = missed & trial.is_open
        # Few that are missed wait for the next round, which shows them with what it finds.
        many = missed.sum() > (0 if turn.is_last else _FEW * withheld.sum())
        if best is not None and many and len(self.trials.attempts) < ATTEMPTS:
            more = self._ask(best.model, missed, suffix=_AGAIN)
            if _any_change(more):
                second = self.trials.judge(more[-1].model, asked, missed & False)
                best = said = second if second.ok else best
        vetoed: tuple[str, ...] = ()
        if best is not None:
            vetoed = vetoes(
                by.plugins, Candidate(turn.number, best.added, best.model), self.evidence, self.log
            )
        released = None if best is None or vetoed else self._stamped(best)
        return Mended(
            model=released,
            judgements=() if said is None else said.judgements,
            vetoes=vetoed,
            predictions=tuple(
                prediction(step, told, turn.flaws.states[unseen], released, by.good, self.floor)
                for step, told, unseen in self.asked
            ),
            attempts=tuple(self.trials.attempts),
            conflicts=(*contested, *clashes.values()),
            reasons=self._reasons(best, released, clashes, withheld, vetoed),
            closed_by={} if released is None else self._closed_by(released),
        )

    def _ask(
        self,
        model: RewardModel,
        about: Mask,
        withheld: Mask | None = None,
        *,
        suffix: str = "",
        former: Sequence[Proposed] | None = None,
    ) -> list[Proposed]:
        """Ask each refiner in turn, each about what those before it left open.

        With the proposals of a `former` candidate, what breaks the cap is left out of each before
        the next refiner is asked; up to the first that changes they are taken as they were.
        """
        by, turn, steps = self.by, self.turn, list[Proposed]()
        known = {proposed.refiner: proposed for proposed in former or ()}
        if not about.any():
            return steps
        ranked = self._rank(turn.flaws.take(np.flatnonzero(about)))
        for step, refiner in by.refiners:
            left = ranked.take(np.flatnonzero(self.trials.is_open(model, ranked)))
            if not len(left) and not refiner.tidies:
                continue
            proposed = known.get(step.id)
            if proposed is None:
                repair = Repair(
                    model=model,
                    flaws=left,
                    closed=read_only(turn.flaws.states[~self.trials.is_open(model, turn.flaws)]),
                    known_good=by.good.states,
                    original=by.good.original,
                    floor=self.floor,
                )
                context = Context("refine", step.id, by.settings.seed, turn.number)
                proposed = propose(step, refiner, repair, context, suffix)
                told = expected(proposed, by.good, self.floor)
                self.asked.append((proposed, told, about & False if withheld is None else withheld))
                new = sum(c.count for c in proposed.proposal.corrections)
                by.progress(
                    f"round {turn.number}: {step.id} asked to close {count(len(left), 'flaw')}, "
                    f"corrections proposed: {new:,}"
                )
            if former is not None and self.trials.broken(proposed.model):
                proposed, known = self._within_the_cap(proposed), {}
            steps.append(proposed)
            model = proposed.model
        return steps

    def _within_the_cap(self, proposed: Proposed) -> Proposed:
        """Return of a proposal what breaks nothing: without what is at fault, or nothing of it."""
        said, before = proposed.proposal, proposed.repair.model
        (broken,) = self.trials.broken(proposed.model)
        none = attrs.evolve(
            proposed, proposal=attrs.evolve(said, corrections=(), replaces=()), model=before
        )
        if said.replaces or not broken.blames:
            return none
        pieces = take_apart(said.corrections, proposed.model)
        kept = [piece for piece in pieces if piece.name not in broken.blames]
        corrections = put_together(said.corrections, kept)
        model = before.with_corrections(corrections)
        if not corrections or self.trials.broken(model):
            return none
        return attrs.evolve(
            proposed, proposal=attrs.evolve(said, corrections=corrections), model=model
        )

    def _rank(self, flaws: Flaws) -> Flaws:
        step, triage = self.by.triage
        with blame(step, "rank the flaws"):
            context = Context("triage", step.id, self.by.settings.seed, self.turn.number)
            order = np.asarray(list(triage.rank(flaws, context)))
            if sorted(order.tolist()) != list(range(len(flaws))):
                raise ValueError("the ranking is no permutation of the flaws")
        return flaws.take(order)

    def _best(self, asked: Mask, withheld: Mask) -> Trial | None:
        """Return the candidate that passes: all that is proposed, or the largest part of it."""
        shown = asked & ~withheld
        steps = self._ask(self.turn.model, shown, withheld)
        if not _any_change(steps):
            return None
        whole = self.trials.judge(steps[-1].model, asked, withheld)
        for judgement in whole.refusals:
            self.by.progress(
                f"round {self.turn.number}: gate {judgement.gate} refused: {judgement.reason}"
            )
        first = whole
        if not whole.ok and self.trials.broken(whole.model):
            steps = self._ask(self.turn.model, shown, withheld, former=steps)
            if not _any_change(steps):
                return None
            whole = self.trials.judge(steps[-1].model, asked, withheld, instead_of=first)
        if not whole.ok and any(step.proposal.replaces for step in steps):
            # What replaces others stands or falls with what it replaces: first do without it.
            added = [c for s in steps if not s.proposal.replaces for c in s.proposal.corrections]
            if not added:
                return None
            model = self.turn.model.with_corrections(added)
            whole = self.trials.judge(model, asked, withheld, instead_of=first)
        if whole.ok:
            return whole
        if any(judgement.blames == () for judgement in whole.refusals):
            return None
        return self.trials.largest_part(whole, asked, withheld)

    def _stamped(self, trial: Trial) -> RewardModel:
        """Return the reward whose new corrections say how many flaws each closes by itself."""
        rows = np.flatnonzero(self.turn.was_open)
        states = self.turn.flaws.states[rows]
        new = {id(correction) for correction in trial.added}

        def stamped(correction: Correction) -> Correction:
            if id(correction) not in new:
                return correction
            alone = self.turn.model.evolve(
                corrections=(
                    *(c for c in self.turn.model.corrections if c.id != correction.id),
                    correction,
                )
            )
            closes = int((alone(states) <= self.floor).sum())
            return attrs.evolve(correction, closes=closes, approved=self.by.settings.approval)

        return trial.model.evolve(
            corrections=[stamped(correction) for correction in trial.model.corrections]
        )

    def _closed_by(self, released: RewardModel) -> dict[str, str]:
        """Return id of each flaw that closes -> the correction that takes most off it."""
        flaws = self.turn.flaws
        closed = np.flatnonzero(self.turn.was_open & ~self.trials.is_open(released, flaws))
        new = [c for c in released.corrections if c.round == self.turn.number]
        if not len(closed) or not new:
            return {}
        with torch.no_grad():
            view = released.view(torch.tensor(flaws.states[closed]))
            taken = torch.stack([c.suppression(view) for c in new])
        # What takes nothing off anywhere has changed the base reward itself.
        base = next((i for i, own in enumerate(taken) if not own.any()), 0)
        most = torch.where((taken > 0).any(dim=0), taken.argmax(dim=0), base).tolist()
        return {flaws.ids[row]: new[i].id for row, i in zip(closed, most, strict=True)}

    def _reasons(
        self,
        best: Trial | None,
        released: RewardModel | None,
        clashes: Mapping[int, Conflict],
        withheld: Mask,
        vetoed: Sequence[str],
    ) -> dict[str, str]:
        """Return id of each flaw that stays open -> why."""
        turn = self.turn
        is_open = turn.was_open if released is None else self.trials.is_open(released, turn.flaws)
        left = {
            step.repair.flaws.ids[row]: f"refiner {step.refiner}: {reason}"
            for step, _, _ in self.asked
            for row, reason in step.proposal.left.items()
        }
        shown = {id for step, _, _ in self.asked for id in step.repair.flaws.ids}
        unseen = {row for row in np.flatnonzero(withheld) if turn.flaws.ids[row] not in shown}
        reasons = {}
        for row in np.flatnonzero(is_open):
            refused = next((trial for trial in self.trials.refused if not trial.is_open[row]), None)
            if row in clashes:
                told = f"cannot be met: {clashes[int(row)].text}"
            elif vetoed and best is not None and not best.is_open[row]:
                told = f"vetoed by {vetoed[0]}"
            elif refused is not None:
                judgement = refused.refusals[0]
                told = f"gate {judgement.gate} refused what would close it: {judgement.reason}"
            elif turn.flaws.ids[row] in left:
                told = left[turn.flaws.ids[row]]
            elif row in unseen:
                told = "no refiner was shown it yet"
            else:
                told = "no refiner proposed what closes it"
            reasons[turn.flaws.ids[row]] = told
        return reasons


def _any_change(steps: Sequence[Proposed]) -> bool:
    return any(step.proposal.corrections or step.proposal.replaces for step in steps)
