"""The loop: learn a reward, then audit, triage, refine, judge and release it, round by round."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iirl_engine.api import Context, Failure
from iirl_engine.audit import AuditJob, Verified, run_audit, verify
from iirl_engine.blame import blame
from iirl_engine.chain import Chain, Step, read_chain
from iirl_engine.demonstrations import read_only
from iirl_engine.errors import DataError, KnowledgeError
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import RELEASES
from iirl_engine.learn import known_good_states, learn, load_demonstrations, norm_steps
from iirl_engine.patches import Correction
from iirl_engine.records import (
    AuditResult,
    AuditSummary,
    Candidate,
    Evidence,
    Flaws,
    FlawsFound,
    Judgement,
    Outcome,
    ReleaseMade,
    Repair,
    Report,
    Round,
    RoundFinished,
    RunStarted,
)
from iirl_engine.release import (
    Provenance,
    load_release,
    promote,
    read_manifest,
    write_release,
)
from iirl_engine.reward import RewardModel
from iirl_engine.rundir import claimed, free_folder

log = logging.getLogger(__name__)

Array = NDArray[np.float64]


class Flywheel:
    """Runs one chain in one run directory.

    Parameters
    ----------
    chain
        A checked chain.
    out
        The run directory; made if it does not exist.
    """

    def __init__(self, chain: Chain, out: str | Path) -> None:
        self.chain = chain
        self.out = Path(out)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        out: str | Path | None = None,
        overrides: Sequence[str] = (),
        disable: Iterable[str] = (),
    ) -> Flywheel:
        """Read a chain file; `out` is by default the first free `runs/NAME`, `runs/NAME-2`, ...

        Raises
        ------
        ChainError
            With every problem of the file.
        """
        chain = read_chain(path, overrides=overrides, disable=disable)
        return cls(chain, out if out is not None else free_folder(Path("runs"), Path(path).stem))

    def run(
        self, *, resume: bool = False, progress: Callable[[str], None] = lambda line: None
    ) -> Outcome:
        """Run the chain to its end and return what it came to.

        Parameters
        ----------
        resume
            Go on with the run that `out` holds; the result is that of an uninterrupted run.
        progress
            Called with one line of text as the run proceeds.

        Raises
        ------
        UsageError
            When `out` holds a run and `resume` is not asked, or holds another chain's run.
        DataError
            When the demonstrations cannot be used.
        KnowledgeError
            When another process works in `out`, or its knowledge base is damaged.
        PluginError
            When a strategy that nothing can stand in for fails. What was found is kept.
        """
        with claimed(self.out, self.chain.dump(), resume=resume) as knowledge:
            return _Run(self.chain, self.out, knowledge, progress).to_the_end()

    def report(self) -> list[Path]:
        """Write the reports of the run that `out` holds again; return their files."""
        knowledge = Knowledge(self.out)
        try:
            run = _Run(self.chain, self.out, knowledge, lambda line: None)
            return run.write_reports([(step, step.build()) for step in self.chain.reports])[1]
        finally:
            knowledge.close()


class _Run:
    """One run in progress."""

    def __init__(
        self,
        chain: Chain,
        out: Path,
        knowledge: Knowledge,
        progress: Callable[[str], None],
    ) -> None:
        self.chain = chain
        self.settings = chain.settings
        self.out = out
        self.knowledge = knowledge
        self.progress = progress
        self.hooks = chain.registry.plugins

    def to_the_end(self) -> Outcome:
        auditors = [(step, step.build()) for step in self.chain.audits]
        refiners = [(step, step.build()) for step in self.chain.refines]
        gates = [(step, step.build()) for step in self.chain.gates]
        triage, executor = self.chain.triage.build(), self.chain.executor.build()
        reporters = [(step, step.build()) for step in self.chain.reports]

        self._start()
        rounds = list(self.knowledge.rounds())
        while len(rounds) < self.settings.rounds and not (rounds and _is_done(rounds[-1])):
            rounds.append(self._round(len(rounds) + 1, auditors, triage, refiners, gates, executor))
        return self.write_reports(reporters)[0]

    def write_reports(self, reporters: Sequence[tuple[Step, Any]]) -> tuple[Outcome, list[Path]]:
        """Write every report from what the knowledge base and the releases hold."""
        folder = self.out / RELEASES
        releases = self.knowledge.releases()
        if not releases:
            raise KnowledgeError("the run has made no release yet", where=self.out)
        newest = folder / f"{max(releases):04d}"
        before = load_release(folder / "0000", plugins=self.hooks)
        after = load_release(newest, plugins=self.hooks)
        flaws = self.knowledge.flaws(after.width)
        still_open = self._endorsed(after, flaws.states)
        outcome = Outcome(
            run=self.out,
            release=newest,
            rounds=self.knowledge.rounds(),
            open_flaws=int(still_open.sum()),
            plugins=self.chain.plugins,
        )
        report = Report(
            outcome, before, after, flaws, still_open, self.settings.floor, self.chain.dump()
        )
        files: list[Path] = []
        for step, reporter in reporters:
            with blame(step, "write its report"):
                files.extend(reporter.write(report, self.out))
        return outcome, files

    def _start(self) -> None:
        """Have the demonstrations, release 0 and the newest release at hand."""
        self.data = load_demonstrations(self.chain)
        self.norms = norm_steps(self.chain, self.data)
        self.progress(
            f"source {self.chain.source.id}: {len(self.data.states):,} expert states, "
            f"{len(self.data.feature_names)} features, {len(self.data.held_out):,} held out"
        )
        event = RunStarted(self.out, self.chain.dump(), self.chain.plugins, self.data.fingerprint)
        self._observe(0, "iirl_run_started", event=event)
        releases = self.knowledge.releases()
        if releases:
            self._restore(max(releases))
        else:
            self.first = self.model = learn(self.chain, self.data)
            manifest = self._write(0, self.model, ())
            self.knowledge.add_release(0, manifest, _now())
            self._announce(0, manifest)
        self.progress(
            f"encoder {self.chain.encoder.id}: mean reward of the demonstrations "
            f"{float(self.first(self.data.states).mean()):.3f}"
        )
        good, forbidden = known_good_states(self.data, self.first)
        if not len(good):
            raise DataError(
                "the norms forbid every demonstration",
                where=", ".join(self.first.norms),
                next_step="compare the norms' limits with the data: iirl explain",
            )
        if forbidden:
            self._log(0, f"norms forbid {forbidden} known-good states; these are not protected")
        self.known_good = read_only(good)
        self.original = read_only(self.first(good))

    def _restore(self, newest: int) -> None:
        folder = self.out / RELEASES
        self.first = load_release(folder / "0000", plugins=self.hooks)
        self.model = load_release(folder / f"{newest:04d}", plugins=self.hooks)
        if read_manifest(folder / "0000")["data"] != self.data.fingerprint:
            raise DataError(
                "the demonstrations are not those the run was started with",
                where=self.data.origin,
                next_step="restore them, or start a new run with --out",
            )

    def _round(
        self,
        number: int,
        auditors: Sequence[tuple[Step, Any]],
        triage: Any,
        refiners: Sequence[tuple[Step, Any]],
        gates: Sequence[tuple[Step, Any]],
        executor: Any,
    ) -> Round:
        started = time.process_time()
        results = self._audit(number, auditors, executor)
        known = self.knowledge.flaws(self.model.width, before=number).ids
        verified = verify(results, self.model, self.settings.floor, known)
        for audit in verified:
            self.knowledge.add_flaws(number, audit.new)
        flaws = self.knowledge.flaws(self.model.width)
        summaries = tuple(_summary(audit) for audit in verified)
        was_open = self._endorsed(self.model, flaws.states)
        ranked = self._triage(number, triage, flaws.take(np.flatnonzero(was_open)))
        confirmed = sum(s.confirmed for s in summaries)
        if confirmed:
            fresh = flaws.take(range(len(flaws) - confirmed, len(flaws)))
            event = FlawsFound(self.out, number, fresh)
            self._observe(number, "iirl_flaws_found", event=event)

        judgements: tuple[Judgement, ...] = ()
        vetoes: tuple[str, ...] = ()
        released: int | None = None
        manifest: str | None = None
        sound = all(s.status in ("clean", "findings") for s in summaries)
        evidence = Evidence(
            self.model, flaws, read_only(was_open), self.known_good, self.original,
            self.settings.floor, self.data.fingerprint,
        )  # fmt: skip
        if len(ranked):
            candidate = self._refine(number, refiners, ranked, flaws.states[~was_open])
            if candidate is not None:
                judgements = self._judge(number, gates, candidate, evidence)
                if all(j.ok for j in judgements):
                    vetoes = self._vetoes(candidate, evidence)
                if all(j.ok for j in judgements) and not vetoes:
                    released = max(self.knowledge.releases()) + 1
                    manifest = self._write(released, candidate.model, judgements)
                    self.model = candidate.model
        elif sound and max(self.knowledge.releases()) == 0:
            vetoes = self._vetoes(Candidate(0, (), self.model), evidence)

        still_open = self._endorsed(self.model, flaws.states)
        closed = np.flatnonzero(was_open & ~still_open)
        summary = Round(
            number=number,
            found=sum(s.found for s in summaries),
            confirmed=confirmed,
            closed=len(closed),
            open=int(still_open.sum()),
            misses=int((self.model(self.known_good) < self.settings.good_floor).sum()),
            corrections=sum(c.count for c in self.model.corrections),
            queries=sum(s.queries + s.found for s in summaries),
            seconds=time.process_time() - started,
            release=released,
            audits=summaries,
            gates=judgements,
            vetoes=vetoes,
        )
        self.knowledge.finish_round(
            summary,
            manifest=manifest,
            closed=[flaws.ids[i] for i in closed],
            made=_now(),
        )
        clean_first = not len(ranked) and max(self.knowledge.releases()) == 0
        if sound and not vetoes and (manifest is not None or clean_first):
            newest = max(self.knowledge.releases())
            promote(self.out, newest, self.knowledge.releases()[newest])
        if manifest is not None and released is not None:
            self._announce(released, manifest)
        self._observe(number, "iirl_round_finished", event=RoundFinished(self.out, summary))
        self.progress(
            f"round {number}: {summary.found:,} found, {summary.confirmed:,} confirmed, "
            f"{summary.closed:,} closed, {summary.open:,} open, "
            f"{summary.corrections:,} corrections"
        )
        return summary

    def _audit(
        self, number: int, auditors: Sequence[tuple[Step, Any]], executor: Any
    ) -> list[AuditResult]:
        jobs = [
            AuditJob(auditor, self.model, self.settings.floor, self._context("audit", step, number))
            for step, auditor in auditors
        ]
        results: list[AuditResult] = []
        for (step, _), result in zip(auditors, executor.map(run_audit, jobs), strict=True):
            if isinstance(result, Failure):
                empty = np.empty((0, self.model.width))
                result = AuditResult(step.id, "crashed", empty, 0, 0.0, result.reason)
            results.append(result)
            if result.status in ("crashed", "over-budget"):
                self._log(number, f"auditor {step.id} {result.status}: {result.reason}")
        return results

    def _triage(self, number: int, triage: Any, flaws: Flaws) -> Flaws:
        step = self.chain.triage
        with blame(step, "rank the flaws"):
            order = np.asarray(triage.rank(flaws, self._context("triage", step, number)))
            if sorted(order.tolist()) != list(range(len(flaws))):
                raise ValueError("the ranking is no permutation of the flaws")
        return flaws.take(order)

    def _refine(
        self, number: int, refiners: Sequence[tuple[Step, Any]], flaws: Flaws, closed: Array
    ) -> Candidate | None:
        """Ask each refiner in turn, each about what those before it left open."""
        model, added = self.model, list[Correction]()
        for step, refiner in refiners:
            left = flaws.take(np.flatnonzero(self._endorsed(model, flaws.states)))
            if not len(left):
                break
            repair = Repair(
                model, left, read_only(closed), self.known_good, self.original,
                self.settings.floor,
            )  # fmt: skip
            with blame(step, "propose corrections"):
                proposed = refiner.propose(repair, self._context("refine", step, number))
                model = model.with_corrections(proposed)
                model(left.states)
            added.extend(proposed)
            self.progress(
                f"round {number}: {step.id} proposes {sum(c.count for c in proposed):,} "
                f"corrections for {len(left):,} open flaws"
            )
        return Candidate(number, tuple(added), model) if added else None

    def _judge(
        self,
        number: int,
        gates: Sequence[tuple[Step, Any]],
        candidate: Candidate,
        evidence: Evidence,
    ) -> tuple[Judgement, ...]:
        """Ask every gate; one that raises or answers with NaN refuses."""
        judgements = []
        for step, gate in gates:
            try:
                said = gate.judge(candidate, evidence, self._context("gate", step, number))
                sane = all(np.isfinite(v) for v in said.numbers.values())
                judgement = Judgement(
                    step.id,
                    bool(said.ok) and sane,
                    dict(said.numbers) if sane else {},
                    said.reason if sane else "a number is not finite",
                )
            except Exception as error:
                reason = f"raised {type(error).__name__}: {error}"
                judgement = Judgement(step.id, False, {}, reason)
                self._log(number, f"gate {step.id} {reason}")
            judgements.append(judgement)
            if not judgement.ok:
                self.progress(f"round {number}: gate {step.id} refused: {judgement.reason}")
        return tuple(judgements)

    def _vetoes(self, candidate: Candidate, evidence: Evidence) -> tuple[str, ...]:
        reasons = []
        for dist, ask in self.hooks.implementations("iirl_veto"):
            try:
                answer = ask(candidate=candidate, evidence=evidence)
            except Exception as error:
                answer = f"raised {type(error).__name__}: {error}"
            if answer is not None:
                told = answer if isinstance(answer, str) else f"answered {answer!r}, no text"
                reasons.append(f"{dist}: {told}")
                self._log(candidate.round, f"vetoed by {reasons[-1]}")
        return tuple(reasons)

    def _write(self, number: int, model: RewardModel, gates: tuple[Judgement, ...]) -> str:
        """Write a release and return the SHA-256 of its manifest."""
        provenance = Provenance(
            number=number,
            floor=self.settings.floor,
            seed=self.settings.seed,
            encoder=self.chain.encoder,
            mapping=self.chain.mapping,
            norms=self.norms,
            data=self.data.fingerprint,
            gates=gates,
        )
        return write_release(self.out, model, provenance)[1]

    def _announce(self, number: int, manifest: str) -> None:
        event = ReleaseMade(self.out, self.out / RELEASES / f"{number:04d}", manifest)
        self._observe(number, "iirl_release_made", event=event)

    def _observe(self, number: int, hook: str, **arguments: Any) -> None:
        """Tell every observer; one that raises is logged and the run goes on."""
        for dist, tell in self.hooks.implementations(hook):
            try:
                tell(**arguments)
            except Exception as error:
                self._log(number, f"{hook} of {dist} raised {type(error).__name__}: {error}")

    def _log(self, number: int, text: str) -> None:
        log.warning(text)
        self.knowledge.log(number, text, _now())

    def _endorsed(self, model: RewardModel, states: Array) -> NDArray[np.bool_]:
        if not len(states):
            return np.zeros(0, dtype=np.bool_)
        return np.asarray(model(states) > self.settings.floor)

    def _context(self, kind: str, step: Step, number: int) -> Context:
        return Context(kind, step.id, self.settings.seed, number)


def _is_done(last: Round) -> bool:
    sound = all(a.status in ("clean", "findings") for a in last.audits)
    return last.confirmed == 0 and sound


def _summary(audit: Verified) -> AuditSummary:
    result = audit.result
    return AuditSummary(
        result.auditor,
        result.status,
        found=len(result.states),
        confirmed=len(audit.new),
        queries=result.queries,
        seconds=result.seconds,
        reason=result.reason,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
