"""How the audits of one round are run, each result kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from iirl_engine.api import Context, Failure
from iirl_engine.audit import AuditJob, Verified, evidence, run_audit
from iirl_engine.blame import blame
from iirl_engine.chain import Step
from iirl_engine.counted import count
from iirl_engine.knowledge import Knowledge
from iirl_engine.options import members_of
from iirl_engine.records import AuditResult, AuditSummary, Released
from iirl_engine.reward import RewardModel


def built_auditors(steps: Sequence[Step]) -> list[tuple[Step, Any]]:
    """Return (step, auditor) of a chain; those that run under another one are handed to it."""
    built = {step.id: step.build() for step in steps}
    led: set[str] = set()
    for step in steps:
        if names := [name for _, name in members_of(step.options)]:
            with blame(step, "lead its members"):
                built[step.id].lead({name: built[name] for name in names})
            led.update(names)
    return [(step, built[step.id]) for step in steps if step.id not in led]


@attrs.frozen(eq=False)
class RedTeam:
    """The auditors of a chain, and where they are run.

    Parameters
    ----------
    auditors
        (step, auditor), in the order of the chain.
    executor
        (step, executor).
    floor, seed
        Of the run.
    """

    auditors: Sequence[tuple[Step, Any]]
    executor: tuple[Step, Any]
    floor: float
    seed: int

    def audit(
        self,
        model: RewardModel,
        number: int,
        knowledge: Knowledge,
        progress: Callable[[str], None],
        log: Callable[[str], None],
        history: tuple[Released, ...] = (),
    ) -> list[AuditResult]:
        """Audit a reward and return one result per auditor, in the order of the chain.

        A result is in the knowledge base as soon as its audit has ended. Those that are there
        already, of a round that was cut short, are taken from there and not run again.

        Parameters
        ----------
        model
            The reward.
        number
            The round's number.
        knowledge
            Where results are kept.
        progress, log
            Told of each audit that ends, and of each that fails.
        history
            What is on record of the reward's release and those before.
        """
        results = knowledge.ended(number, model.width)
        todo = [step for step, _ in self.auditors if step.id not in results]
        jobs = [
            AuditJob(
                auditor, model, self.floor, Context("audit", step.id, self.seed, number), history
            )
            for step, auditor in self.auditors
            if step.id not in results
        ]
        for name in results:
            progress(f"{name} had ended before the interruption")
        step, executor = self.executor
        with blame(step, "run the audits"):
            came = 0
            for place, done in executor.each(run_audit, jobs):
                came += 1
                if place < len(todo) and todo[place].id not in results:
                    result = _result(todo[place], done, model.width)
                    knowledge.add_result(number, result)
                    results[result.auditor] = result
                    progress(_told(result))
            if came != len(jobs) or len(results) != len(self.auditors):
                raise ValueError(f"{len(jobs)} jobs came back as {came} results")
        ordered = [results[step.id] for step, _ in self.auditors]
        for result in ordered:
            if result.status in ("undecided", "crashed", "over-budget"):
                log(f"auditor {result.auditor} {result.status}: {result.reason}")
        return ordered

    def summaries(self, verified: Sequence[Verified]) -> tuple[AuditSummary, ...]:
        """Return each auditor's line in the round, in the order of the chain."""
        pairs = zip(self.auditors, verified, strict=True)
        return tuple(_summary(audit, auditor) for (_, auditor), audit in pairs)


def _result(step: Step, done: object, width: int) -> AuditResult:
    """Return what came back from an executor; what is no result is a crash."""
    if isinstance(done, AuditResult) and done.auditor == step.id:
        return done
    reason = str(done.reason) if isinstance(done, Failure) else "the executor lost its result"
    return AuditResult(step.id, "crashed", np.empty((0, width)), 0, 0.0, reason)


def _told(result: AuditResult) -> str:
    suspected, asked = count(len(result.states), "state"), count(result.queries, "query")
    ending = {"crashed": ", and crashed", "over-budget": ", and ran over its budget"}
    return f"{result.auditor} suspects {suspected} after {asked}{ending.get(result.status, '')}"


def _summary(audit: Verified, auditor: Any) -> AuditSummary:
    """Return an auditor's line in its round."""
    result = audit.result
    return AuditSummary(
        result.auditor,
        result.status,
        found=len(result.states),
        confirmed=len(audit.new),
        queries=result.queries,
        seconds=result.seconds,
        reason=result.reason,
        evidence=evidence(result),
        concerns=len(result.concerns),
        grave=sum(concern.grave for concern in result.concerns),
        draws=result.draws,
        flawed=result.flawed,
        budget=auditor.options.budget,
        exhaustive=bool(getattr(auditor, "exhaustive", False)),
    )
