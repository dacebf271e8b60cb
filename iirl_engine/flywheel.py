"""The loop: learn a reward, then audit, triage, refine, judge and release it, round by round."""

from __future__ import annotations

import datetime
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context
from iirl_engine.audit import verify
from iirl_engine.blame import blame
from iirl_engine.chain import Chain, Step, read_chain
from iirl_engine.counted import count
from iirl_engine.demonstrations import too_few
from iirl_engine.errors import DataError, PluginError, told
from iirl_engine.evidence import Judgement
from iirl_engine.formula import formula_of
from iirl_engine.knowledge import Knowledge
from iirl_engine.knowngood import KnownGood
from iirl_engine.layout import RELEASES
from iirl_engine.learn import (
    keep_allowed,
    learn,
    load_demonstrations,
    norm_steps,
)
from iirl_engine.mend import Mender
from iirl_engine.propose import check_needs
from iirl_engine.records import (
    AuditResult,
    FlawsFound,
    Outcome,
    ReleaseMade,
    Round,
    RoundFinished,
    RunStarted,
)
from iirl_engine.redteam import RedTeam, built_auditors
from iirl_engine.regions import describe, group_open
from iirl_engine.release import (
    Provenance,
    load_release,
    promote,
    read_manifest,
    write_release,
)
from iirl_engine.remaining import unseen
from iirl_engine.reporting import write_reports
from iirl_engine.reward import RewardModel
from iirl_engine.rundir import claimed, free_folder
from iirl_engine.stable import stable_release
from iirl_engine.trial import Turn

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

# What a known-good state may lose where no gate says so.
_CAP = 0.10
# Demonstrations on which a release is compared with what it was made from.
_COMPARED = 1000


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
            try:
                return _Run(self.chain, self.out, knowledge, progress).to_the_end()
            except SystemExit as error:  # whether the program ends is not for a strategy to say
                raise PluginError("a strategy ended the run", got=told(error)) from error

    def report(self) -> list[Path]:
        """Write the reports of the run that `out` holds again; return their files."""
        knowledge = Knowledge(self.out)
        try:
            chain, reporters = self.chain.reporting, _built(self.chain.reports)
            return list(write_reports(self.out, knowledge, chain, reporters).reports)
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
        """Build every strategy, then turn until a round confirms nothing or none is left."""
        executor = self.chain.executor
        self.team = RedTeam(
            built_auditors(self.chain.audits),
            (executor, executor.build()),
            self.settings.floor,
            self.settings.seed,
        )
        self.refiners = _built(self.chain.refines)
        self.gates = _built(self.chain.gates)
        self.triage = self.chain.triage.build()
        reporters = _built(self.chain.reports)

        self._start()
        rounds = list(self.knowledge.rounds())
        self._promote(rounds)
        while len(rounds) < self.settings.rounds and not (rounds and _is_done(rounds[-1])):
            rounds.append(self._round(len(rounds) + 1))
            self._promote(rounds)
            self._observe(len(rounds), "iirl_round_finished", RoundFinished(self.out, rounds[-1]))
        return write_reports(self.out, self.knowledge, self.chain.reporting, reporters)

    def _start(self) -> None:
        """Have the demonstrations, release 0 and the newest release at hand."""
        loaded = load_demonstrations(self.chain)
        self.fingerprint = loaded.fingerprint
        self.norms = norm_steps(self.chain, loaded)
        self.progress(
            f"source {self.chain.source.id}: {count(len(loaded.states), 'expert state')}, "
            f"{count(len(loaded.feature_names), 'feature')}, {len(loaded.held_out):,} held out"
        )
        for text in too_few(loaded, self.settings.held_out):
            self._log(0, text)
        self.data, self.screening = keep_allowed(self.chain, loaded)
        for name, many in self.screening.dropped:
            left_out = "which is left out" if many == 1 else "which are left out"
            self._log(0, f"norm {name} forbids {count(many, 'expert state')}, {left_out}")
        event = RunStarted(self.out, self.chain.dump(), self.chain.plugins, self.fingerprint)
        self._observe(0, "iirl_run_started", event)
        releases = self.knowledge.releases()
        if releases:
            self._restore(max(releases))
        else:
            self.first = self.model = learn(self.chain, self.data)
            manifest = self._write(0, self.model, ())
            self._check_faithful()
            prints = formula_of(self.model).fingerprints()
            self.knowledge.add_release(0, manifest, _now(), prints)
            self._announce(0, manifest)
        self.progress(
            f"encoder {self.chain.encoder.id}: mean reward of the demonstrations "
            f"{float(self.first(self.data.states).mean()):.3f}"
        )
        check_needs(self.refiners, self.first)
        self.good = KnownGood.of(self.data, self.first, self._cap())
        if not len(self.good.states):
            raise DataError(
                "the norms forbid every demonstration",
                where=", ".join(self.first.norms),
                next_step="compare the norms' limits with the data: iirl explain",
            )
        if forbidden := self.good.forbidden:
            self._log(0, f"norms forbid {forbidden} known-good states; these are not protected")
        self.mender = Mender(
            refiners=self.refiners,
            gates=self.gates,
            triage=(self.chain.triage, self.triage),
            plugins=self.hooks,
            settings=self.settings,
            first=self.first,
            good=self.good,
            contested=self.data.known_good,
            data=self.fingerprint,
            progress=self.progress,
            log=self._log,
        )

    def _cap(self) -> float:
        """Return the strictest of the gates' caps on the loss of a known-good state."""
        caps = []
        for step, gate in self.gates:
            with blame(step, "say its cap"):
                if gate.cap is not None:
                    caps.append(float(gate.cap))
        return min(caps, default=_CAP)

    def _check_faithful(self) -> None:
        """Refuse parts that a release does not give back as they are: nobody audits those."""
        stored = load_release(self.out / RELEASES / "0000", plugins=self.hooks)
        some = self.data.states[:_COMPARED]
        with torch.no_grad():
            same = np.array_equal(stored(some), self.model(some)) and torch.equal(
                stored.violation(torch.tensor(some)), self.model.violation(torch.tensor(some))
            )
        if not same:
            raise PluginError(
                "the release does not give back the reward it was made from",
                where=", ".join(s.entry.qualified for _, s in self.chain.steps[1:3]),
                next_step="what a strategy's tensors() returns, its restore() must take back whole",
            )

    def _release(self, number: int) -> RewardModel:
        """Load a release of this run: the one that the knowledge base names, or none."""
        folder = self.out / RELEASES / f"{number:04d}"
        manifest = self.knowledge.releases()[number]
        return load_release(folder, plugins=self.hooks, manifest=manifest)

    def _restore(self, newest: int) -> None:
        folder = self.out / RELEASES
        self.first, self.model = self._release(0), self._release(newest)
        # A release holds the expert states alone; auditors may look at all of the data.
        self.first, self.model = (
            m.evolve(demonstrations=self.data) for m in (self.first, self.model)
        )
        if read_manifest(folder / "0000")["data"] != self.fingerprint:
            raise DataError(
                "the demonstrations are not those the run was started with",
                where=self.data.origin,
                next_step="restore them, or start a new run with --out",
            )

    def _round(self, number: int) -> Round:
        started = time.process_time()
        known = self.knowledge.flaws(self.model.width, before=number).ids
        results = self.team.audit(
            self.model,
            number,
            self.knowledge,
            lambda line: self.progress(f"round {number}: {line}"),
            functools.partial(self._log, number),
            self.knowledge.history(),
        )
        verified = verify(results, self.model, self.settings.floor, known)
        for audit in verified:
            self.knowledge.add_flaws(number, audit.new)
        flaws = self.knowledge.flaws(self.model.width)
        confirmed = sum(len(audit.new) for audit in verified)
        if confirmed:
            new = flaws.take(range(len(flaws) - confirmed, len(flaws)))
            self._observe(number, "iirl_flaws_found", FlawsFound(self.out, number, new))

        was_open = self._endorsed(self.model, flaws.states)
        groups = group_open(flaws, was_open, self.model, self.settings.floor)
        flaws = groups.flaws
        probes = np.concatenate([self.model.probes, *_probes(results, self.model.width)])
        mended = self.mender.mend(
            Turn(
                number=number,
                model=self.model,
                unreleased=max(self.knowledge.releases()) == 0,
                flaws=flaws,
                was_open=was_open,
                is_new=np.arange(len(flaws)) >= len(flaws) - confirmed,
                regions=groups.rows,
                is_last=number >= self.settings.rounds,
            )
        )
        release = manifest = None
        if mended.model is not None:
            release = max(self.knowledge.releases()) + 1
            self.model = mended.model.evolve(probes=probes)
            manifest = self._write(release, self.model, mended.judgements)
        still_open = self._endorsed(self.model, flaws.states)
        closed = np.flatnonzero(was_open & ~still_open)
        regions = describe(flaws, groups.rows, self.first, number, still_open)
        summary = Round(
            number=number,
            found=sum(len(audit.result.states) for audit in verified),
            confirmed=confirmed,
            closed=len(closed),
            open=int(still_open.sum()),
            misses=int((self.model(self.good.states) < self.settings.good_floor).sum()),
            corrections=sum(c.count for c in self.model.corrections),
            queries=sum(a.result.queries + len(a.result.states) for a in verified) + groups.queries,
            seconds=time.process_time() - started,
            release=release,
            audits=self.team.summaries(verified),
            gates=mended.judgements,
            vetoes=mended.vetoes,
            regions=len(regions),
            open_regions=sum(region.open > 0 for region in regions),
            remaining=unseen(groups, verified),
            predictions=mended.predictions,
            attempts=mended.attempts,
            conflicts=mended.conflicts,
        )
        self.knowledge.finish_round(
            summary,
            manifest=manifest,
            fingerprints=formula_of(self.model).fingerprints() if manifest else None,
            closed=[flaws.ids[i] for i in closed],
            made=_now(),
            concerns=[concern for audit in verified for concern in audit.result.concerns],
            regions=regions,
            closed_by=mended.closed_by,
            open_because=mended.reasons,
        )
        if release is not None:
            self._announce(release, manifest or "")
        self.progress(
            f"round {number}: {summary.found:,} found, {summary.confirmed:,} confirmed, "
            f"{summary.closed:,} closed, {summary.open:,} open; "
            f"regions: {summary.regions:,}, open: {summary.open_regions:,}"
        )
        return summary

    def _write(self, number: int, model: RewardModel, gates: tuple[Judgement, ...]) -> str:
        """Write a release and return the SHA-256 of its manifest."""
        provenance = Provenance(
            number=number,
            floor=self.settings.floor,
            seed=self.settings.seed,
            encoder=self.chain.encoder,
            mapping=self.chain.mapping,
            norms=self.norms,
            schedule=self.chain.schedule,
            data=self.fingerprint,
            screening=self.screening,
            gates=gates,
        )
        return write_release(self.out, model, provenance)[1]

    def _promote(self, rounds: Sequence[Round]) -> None:
        """Point the stable channel at what the finished rounds endorse, if anything."""
        number = stable_release(rounds)
        if number is not None:
            promote(self.out, number, self.knowledge.releases()[number])

    def _announce(self, number: int, manifest: str) -> None:
        event = ReleaseMade(self.out, self.out / RELEASES / f"{number:04d}", manifest)
        self._observe(number, "iirl_release_made", event)

    def _observe(self, number: int, hook: str, event: object) -> None:
        """Tell every observer; one that raises is logged and the run goes on."""
        for dist, tell in self.hooks.implementations(hook):
            try:
                tell(event=event)
            except Exception as error:
                self._log(number, f"{hook} of {dist} raised {told(error)}")

    def _log(self, number: int, text: str) -> None:
        _log.warning(text)
        self.knowledge.log(number, text, _now())

    def _endorsed(self, model: RewardModel, states: Array) -> NDArray[np.bool_]:
        if not len(states):
            return np.zeros(0, dtype=np.bool_)
        return np.asarray(model(states) > self.settings.floor)

    def _context(self, kind: str, step: Step, number: int) -> Context:
        return Context(kind, step.id, self.settings.seed, number)


def _probes(results: Sequence[AuditResult], width: int) -> Iterator[Array]:
    for result in results:
        if result.probes is not None and result.probes.shape[1:] == (width,):
            yield result.probes


def _built(steps: Sequence[Step]) -> list[tuple[Step, Any]]:
    return [(step, step.build()) for step in steps]


def _is_done(last: Round) -> bool:
    return last.confirmed == 0 and last.sound


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
