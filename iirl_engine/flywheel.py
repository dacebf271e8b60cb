"""The loop: learn a reward, then audit, triage, refine, judge and release it, round by round."""

from __future__ import annotations

import datetime
import logging
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout

from iirl_engine.api import Context, Failure
from iirl_engine.audit import AuditJob, run_audit
from iirl_engine.chain import Chain, Step, read_chain
from iirl_engine.demonstrations import hold_out, widened_range
from iirl_engine.errors import (
    ChainError,
    DataError,
    IirlError,
    KnowledgeError,
    PluginError,
    Problem,
    UsageError,
)
from iirl_engine.knowledge import FILE, Knowledge, flaw_ids
from iirl_engine.options import build_options
from iirl_engine.patches import Correction
from iirl_engine.records import (
    AuditResult,
    AuditSummary,
    Candidate,
    Demonstrations,
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
from iirl_engine.registry import UnknownStrategy
from iirl_engine.release import RELEASES, Provenance, load_release, promote, write_release
from iirl_engine.reward import RewardModel

log = logging.getLogger(__name__)

CHAIN_FILE = "chain.toml"
Array = np.ndarray[Any, np.dtype[np.float64]]
T = TypeVar("T", bound=np.ndarray[Any, Any])


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
        self.out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.out / ".lock")
        try:
            with lock.acquire(timeout=0):
                self._prepare(resume)
                knowledge = Knowledge(self.out, create=True)
                try:
                    return _Run(self.chain, self.out, knowledge, progress).to_the_end()
                finally:
                    knowledge.close()
        except Timeout:
            raise KnowledgeError(
                "another process works in this run directory",
                where=self.out,
                next_step="wait for it, or name another directory with --out",
            ) from None

    def report(self) -> list[Path]:
        """Write the reports of the run that `out` holds again; return their files."""
        knowledge = Knowledge(self.out)
        try:
            run = _Run(self.chain, self.out, knowledge, lambda line: None)
            return run.write_reports([(step, step.build()) for step in self.chain.reports])[1]
        finally:
            knowledge.close()

    def _prepare(self, resume: bool) -> None:
        file = self.out / CHAIN_FILE
        text = self.chain.dump()
        if not (self.out / FILE).exists() and not file.exists():
            strangers = sorted(p.name for p in self.out.iterdir() if p.name != ".lock")
            if strangers:
                raise UsageError(
                    "the run directory is not empty",
                    where=self.out,
                    got=", ".join(strangers[:5]),
                    next_step="name an empty or new directory with --out",
                )
        elif not resume:
            raise UsageError(
                "the directory holds a run already",
                where=self.out,
                next_step="go on with it by --resume, or name another directory with --out",
            )
        elif _without_rounds(file.read_text()) != _without_rounds(text):
            raise UsageError(
                "the directory holds a run of another chain",
                where=file,
                next_step="resume with the chain it was started with; only flywheel.rounds may "
                "differ",
            )
        file.write_text(text)


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

        self._load_data()
        text = self.chain.dump()
        started = RunStarted(self.out, text, self.chain.plugins, self.data.fingerprint)
        self._observe(0, "iirl_run_started", event=started)
        self._learn_or_restore()
        self._settle_known_good()

        rounds = list(self.knowledge.rounds())
        while len(rounds) < self.settings.rounds and not (rounds and _is_done(rounds[-1])):
            rounds.append(
                self._round(len(rounds) + 1, auditors, triage, refiners, gates, executor)
            )
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
        flaws = self.knowledge.flaws()
        if not len(flaws):
            flaws = _joined([], after.width)
        still_open = self._endorsed(after, flaws.states)
        outcome = Outcome(
            run=self.out,
            release=newest,
            rounds=self.knowledge.rounds(),
            open_flaws=int(still_open.sum()),
            plugins=self.chain.plugins,
        )
        report = Report(outcome, before, after, flaws, still_open, self.chain.dump())
        files: list[Path] = []
        for step, reporter in reporters:
            with _blame(step, "write its report"):
                files.extend(reporter.write(report, self.out))
        return outcome, files

    def _load_data(self) -> None:
        """Load the demonstrations and settle the norms, those of the source among them."""
        step = self.chain.source
        source = step.build()
        with _blame(step, "load the demonstrations"):
            data = source.load(self._context("source", step, 0))
        if self.settings.held_out > 0:
            splitter = Context("flywheel", "held-out", self.settings.seed, 0)
            data = hold_out(data, self.settings.held_out, splitter.generator())
        self.data: Demonstrations = data
        self.progress(
            f"source {step.id}: {len(data.states):,} expert states, "
            f"{len(data.feature_names)} features, {len(data.held_out):,} held out"
        )
        self.norm_steps = (*self.chain.norms, *self._source_norms())

    def _source_norms(self) -> Iterator[Step]:
        problems: list[Problem] = []
        taken = {step.id for step in self.chain.norms}
        for spec in self.data.norms:
            path = f"source {self.chain.source.id}, norm {spec.id}"
            try:
                entry = self.chain.registry.find("norm", spec.use)
            except UnknownStrategy as error:
                problems.append(Problem(path, error.message, error.hint))
                continue
            options = build_options(entry.offer.options, spec.options, path, problems, None)
            if spec.id in taken:
                problems.append(Problem(path, "the id is taken by a norm of the chain"))
            if options is not None:
                yield Step(spec.id, entry, options)
        if problems:
            raise ChainError(problems, where=self.chain.path)

    def _learn_or_restore(self) -> None:
        """Have release 0 and the newest release at hand, learning the reward if there is none."""
        releases = self.knowledge.releases()
        if not releases:
            self.first = self.model = self._learn()
            number, manifest = self._write(0, self.model, ())
            self.knowledge.add_release(number, manifest, _now())
            self._announce(0, manifest)
            return
        folder = self.out / RELEASES
        self.first = load_release(folder / "0000", plugins=self.hooks)
        self.model = load_release(folder / f"{max(releases):04d}", plugins=self.hooks)
        if not np.array_equal(self.first.demonstrations.states, self.data.states):
            raise DataError(
                "the demonstrations are not those the run was started with",
                where=self.data.origin,
                next_step="restore them, or start a new run with --out",
            )
        for model in (self.first, self.model):
            model.demonstrations = self.data

    def _learn(self) -> RewardModel:
        norms: dict[str, Any] = {}
        for step in self.norm_steps:
            norms[step.id] = step.build()
            with _blame(step, "settle on the demonstrations"):
                norms[step.id].fit(self.data, self._context("norm", step, 0))
        encoder, mapping = self.chain.encoder.build(), self.chain.mapping.build()
        states = torch.tensor(self.data.states)
        with _blame(self.chain.encoder, "learn from the demonstrations"):
            encoder.fit(self.data, self._context("encoder", self.chain.encoder, 0))
            with torch.no_grad():
                loss = encoder.encode(states).loss
        if loss.shape != (len(states),) or not torch.isfinite(loss).all():
            raise PluginError(
                f"encoder {self.chain.encoder.entry.qualified} gives demonstrations no finite loss",
                got=f"shape {list(loss.shape)}, {int((~torch.isfinite(loss)).sum())} not finite",
                next_step="rescale the demonstrations or choose another encoder",
            )
        with _blame(self.chain.mapping, "learn from the losses"):
            mapping.fit(loss, self._context("mapping", self.chain.mapping, 0))
        domain = self.chain.domain or self.data.domain or widened_range(self.data.states)
        if len(domain.low) != len(self.data.feature_names):
            message = f"has {len(domain.low)} features, the states have {states.shape[1]}"
            raise ChainError([Problem("domain", message)], where=self.chain.path)
        model = RewardModel(encoder, mapping, norms, self.data, domain)
        self.progress(
            f"encoder {self.chain.encoder.id}: mean reward of the demonstrations "
            f"{float(model(self.data.states).mean()):.3f}"
        )
        return model

    def _settle_known_good(self) -> None:
        """Known-good: expert states, held out or not, and the source's; forbidden ones are not."""
        states = np.concatenate([self.data.states, self.data.held_out, self.data.known_good])
        with torch.no_grad():
            forbidden = (self.first.violation(torch.tensor(states)) > 0).numpy()
        if forbidden.all():
            raise DataError(
                "the norms forbid every demonstration",
                where=", ".join(self.first.norms),
                next_step="compare the norms' limits with the data: iirl explain",
            )
        if forbidden.any():
            self._log(0, f"the norms forbid {int(forbidden.sum())} of {len(states)} known-good "
                      "states; these are not protected")
        self.known_good = _read_only(states[~forbidden])
        self.original = _read_only(self.first(self.known_good))

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
        new, summaries = self._verify(number, results)
        self.knowledge.add_flaws(number, new)
        flaws = self._flaws()
        was_open = self._endorsed(self.model, flaws.states)
        ranked = self._triage(number, triage, flaws.take(np.flatnonzero(was_open)))
        if len(new):
            event = FlawsFound(self.out, number, new)
            self._observe(number, "iirl_flaws_found", event=event)

        judgements: tuple[Judgement, ...] = ()
        vetoes: tuple[str, ...] = ()
        released: int | None = None
        manifest: str | None = None
        sound = all(s.status in ("clean", "findings") for s in summaries)
        evidence = Evidence(
            self.model, flaws, _read_only(was_open), self.known_good, self.original,
            self.settings.floor, self.data.fingerprint,
        )  # fmt: skip
        if len(ranked):
            candidate = self._refine(number, refiners, ranked, flaws.states[~was_open])
            if candidate is not None:
                judgements = self._judge(number, gates, candidate, evidence)
                if all(j.ok for j in judgements):
                    vetoes = self._vetoes(candidate, evidence)
                if all(j.ok for j in judgements) and not vetoes:
                    released, manifest = self._write(
                        max(self.knowledge.releases()) + 1, candidate.model, judgements
                    )
                    self.model = candidate.model
        elif sound and max(self.knowledge.releases()) == 0:
            vetoes = self._vetoes(Candidate(0, (), self.model), evidence)

        still_open = self._endorsed(self.model, flaws.states)
        closed = np.flatnonzero(was_open & ~still_open)
        summary = Round(
            number=number,
            found=sum(s.found for s in summaries),
            confirmed=len(new),
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

    def _verify(
        self, number: int, results: Sequence[AuditResult]
    ) -> tuple[Flaws, tuple[AuditSummary, ...]]:
        """Keep of what auditors found the states that are endorsed and forbidden, once each."""
        known = set(self.knowledge.flaws(before=number).ids)
        kept: list[Flaws] = []
        summaries = []
        for result in results:
            flaws = self._confirm(result)
            rows = [i for i, flaw in enumerate(flaws.ids) if flaw not in known]
            fresh = dict.fromkeys(flaws.ids[i] for i in rows)
            first = [i for i in rows if fresh.pop(flaws.ids[i], 0) is None]
            known.update(flaws.ids)
            kept.append(flaws.take(first))
            status = result.status
            if status in ("clean", "findings"):
                status = "findings" if len(flaws) else "clean"
            summaries.append(
                AuditSummary(
                    result.auditor,
                    status,
                    found=len(result.states),
                    confirmed=len(first),
                    queries=result.queries,
                    seconds=result.seconds,
                    reason=result.reason,
                )
            )
        return _joined(kept, self.model.width), tuple(summaries)

    def _confirm(self, result: AuditResult) -> Flaws:
        states = result.states
        with torch.no_grad():
            given = torch.tensor(states)
            rewards = self.model(states) if len(states) else np.empty(0)
            by_norm = self.model.violations(given)
        names = tuple(by_norm)
        table = torch.stack(list(by_norm.values())).numpy()
        worst = table.argmax(axis=0)
        violations = table.max(axis=0)
        finite = np.isfinite(states).all(axis=1)
        rows = np.flatnonzero(finite & (rewards > self.settings.floor) & (violations > 0))
        chosen = np.ascontiguousarray(states[rows])
        return Flaws(
            ids=flaw_ids(chosen),
            states=_read_only(chosen),
            rewards=_read_only(rewards[rows]),
            violations=_read_only(violations[rows]),
            norms=tuple(names[worst[i]] for i in rows),
            auditors=(result.auditor,) * len(rows),
        )

    def _triage(self, number: int, triage: Any, flaws: Flaws) -> Flaws:
        step = self.chain.triage
        with _blame(step, "rank the flaws"):
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
                model, left, _read_only(closed), self.known_good, self.original,
                self.settings.floor,
            )  # fmt: skip
            with _blame(step, "propose corrections"):
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

    def _write(
        self, number: int, model: RewardModel, gates: tuple[Judgement, ...]
    ) -> tuple[int, str]:
        provenance = Provenance(
            number=number,
            floor=self.settings.floor,
            seed=self.settings.seed,
            encoder=self.chain.encoder,
            mapping=self.chain.mapping,
            norms=self.norm_steps,
            data=self.data.fingerprint,
            gates=gates,
        )
        return number, write_release(self.out, model, provenance)[1]

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

    def _flaws(self) -> Flaws:
        found = self.knowledge.flaws()
        return found if len(found) else _joined([], self.model.width)

    def _endorsed(self, model: RewardModel, states: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
        if not len(states):
            return np.zeros(0, dtype=np.bool_)
        return np.asarray(model(states) > self.settings.floor)

    def _context(self, kind: str, step: Step, number: int) -> Context:
        return Context(kind, step.id, self.settings.seed, number)


@contextmanager
def _blame(step: Step, task: str) -> Iterator[None]:
    """Turn whatever a strategy raises into a `PluginError` that names it."""
    try:
        yield
    except IirlError:
        raise
    except Exception as error:
        raise PluginError(
            f"{step.entry.kind} {step.entry.qualified} failed to {task}",
            where=step.id,
            got=f"{type(error).__name__}: {error}",
            next_step="run again with --debug for the traceback; what was found is kept",
        ) from error


def _is_done(last: Round) -> bool:
    sound = all(a.status in ("clean", "findings") for a in last.audits)
    return last.confirmed == 0 and sound


def _joined(parts: Sequence[Flaws], width: int) -> Flaws:
    return Flaws(
        ids=tuple(i for p in parts for i in p.ids),
        states=_read_only(np.concatenate([np.empty((0, width)), *(p.states for p in parts)])),
        rewards=_read_only(np.concatenate([np.empty(0), *(p.rewards for p in parts)])),
        violations=_read_only(np.concatenate([np.empty(0), *(p.violations for p in parts)])),
        norms=tuple(n for p in parts for n in p.norms),
        auditors=tuple(a for p in parts for a in p.auditors),
    )


def _read_only(array: T) -> T:
    array.setflags(write=False)
    return array


def _without_rounds(text: str) -> dict[str, Any]:
    table = tomllib.loads(text)
    table.get("flywheel", {}).pop("rounds", None)
    return table


def free_folder(parent: Path, name: str) -> Path:
    """Return `parent/name`, or the first of `parent/name-2`, ... that does not exist."""
    folder, count = parent / name, 1
    while folder.exists():
        count += 1
        folder = parent / f"{name}-{count}"
    return folder


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

