"""What an audit of a finished release finds: a chain's auditors, and no refinement after them."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.audit import no_flaws, verify
from iirl_engine.chain import Chain
from iirl_engine.counted import count
from iirl_engine.errors import PluginError, UsageError, told
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import (
    AUDIT,
    AUDITS,
    CHAIN,
    CHANNELS,
    KNOWLEDGE,
    MANIFEST,
    RELEASES,
    STABLE,
)
from iirl_engine.records import Concern, Flaws, Region, Released, Round
from iirl_engine.redteam import RedTeam, built_auditors
from iirl_engine.regions import describe, group_open
from iirl_engine.release import load_release, read_manifest, stable_folder, write_synced
from iirl_engine.remaining import unseen
from iirl_engine.reward import RewardModel
from iirl_engine.rundir import claimed

_log = logging.getLogger(__name__)


@attrs.frozen
class Subject:
    """The release to audit.

    Parameters
    ----------
    release
        Its directory.
    manifest
        SHA-256 that its manifest must have, where the run names one.
    run
        The run it belongs to, if it lies in one.
    """

    release: Path
    manifest: str | None
    run: Path | None


@attrs.frozen
class Findings:
    """What an audit of a release came to; `iirl audit --json` prints it.

    Parameters
    ----------
    audit
        The audit's directory.
    turn
        The audits, in the form of a round that made no release.
    regions
        Of the flaws that the release has, the most severe first.
    known, known_open
        Flaws that the release's run knows of, and those that the release endorses.
    """

    audit: Path
    release: Path
    seed: int
    floor: float
    turn: Round
    regions: tuple[Region, ...]
    concerns: tuple[Concern, ...]
    known: int
    known_open: int
    plugins: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """True when every audit ran to its end and the release has no flaw."""
        return self.turn.sound and not self.turn.open

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl audit --json` prints."""
        left = self.turn.remaining
        return {
            "audit": str(self.audit),
            "release": str(self.release),
            "seed": self.seed,
            "floor": self.floor,
            "ok": self.ok,
            "flaws": self.turn.open,
            "known": {"flaws": self.known, "open": self.known_open},
            "regions": [region.to_json() for region in self.regions],
            "remaining": None if left is None else attrs.asdict(left),
            "audits": [attrs.asdict(audit) for audit in self.turn.audits],
            "concerns": [concern.to_json() for concern in self.concerns],
            "queries": self.turn.queries,
            "seconds": self.turn.seconds,
            "plugins": [{"dist": dist, "version": version} for dist, version in self.plugins],
        }


def find_subject(folder: Path) -> Subject:
    """Return the release that a directory means.

    Parameters
    ----------
    folder
        A release directory; or a run directory, for its stable release, or the newest one where
        none is stable.

    Raises
    ------
    UsageError, ArtifactError
        When it is neither, or the run made no release.
    """
    if (folder / CHANNELS / STABLE).exists():
        return Subject(*stable_folder(folder), folder)
    if (folder / RELEASES).is_dir():
        knowledge = Knowledge(folder)
        try:
            releases = knowledge.releases()
        finally:
            knowledge.close()
        if releases:
            newest = max(releases)
            return Subject(folder / RELEASES / f"{newest:04d}", releases[newest], folder)
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            "this directory holds neither a run nor a release",
            where=folder,
            next_step="name a directory that iirl run made, or a release in it",
        )
    run = folder.resolve().parent.parent
    inside = folder.resolve().parent.name == RELEASES and (run / CHAIN).is_file()
    return Subject(folder, None, run if inside else None)


def known_flaws(run: Path | None, width: int) -> Flaws:
    """Return the confirmed flaws of a run; none where there is no run."""
    if run is None or not (run / KNOWLEDGE).is_file():
        return no_flaws(width)
    knowledge = Knowledge(run)
    try:
        return knowledge.flaws(width)
    finally:
        knowledge.close()


def _history(subject: Subject) -> tuple[Released, ...]:
    """Return what the release's run has on record of it and those before; nothing without a run."""
    if subject.run is None or not (subject.run / KNOWLEDGE).is_file():
        return ()
    number = read_manifest(subject.release)["release"]
    knowledge = Knowledge(subject.run)
    try:
        return tuple(known for known in knowledge.history() if known.number <= number)
    finally:
        knowledge.close()


def known_regions(subject: Subject) -> dict[str, NDArray[np.float64]]:
    """Return region -> its flaws' states, the worst first, of a release's run and its audits."""
    folders = [*([subject.run] if subject.run else []), *audits_of(subject)[1]]
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    seen: set[str] = set()
    for folder in folders:
        flaws = known_flaws(folder, 0)
        for row in np.argsort(-flaws.rewards * flaws.violations, kind="stable"):
            if flaws.ids[row] not in seen:
                seen.add(flaws.ids[row])
                # A round that was cut short has flaws that no region holds yet.
                region = flaws.regions[row] or flaws.ids[row]
                found.setdefault(region, {})[flaws.ids[row]] = flaws.states[row]
    return {region: np.stack(list(states.values())) for region, states in found.items()}


def audit_release(
    chain: Chain,
    subject: Subject,
    out: Path,
    seed: int,
    *,
    resume: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Findings:
    """Audit a release with a chain's auditors, and keep what they find in `out`.

    Parameters
    ----------
    chain
        Its auditors, executor and floor are used.
    subject
        The release; flaws that its run knows of are asked about again.
    out
        The audit's directory; made if it does not exist.
    seed
        Of the auditors' random streams.
    resume
        Go on with the audit that `out` holds; the result is that of an uninterrupted one.
    progress
        Called with one line of text as the audit proceeds.

    Raises
    ------
    UsageError
        When `out` holds an audit and `resume` is not asked, or one of another release or seed.
    ArtifactError
        When the release is missing or damaged.
    """
    model = load_release(subject.release, plugins=chain.registry.plugins, manifest=subject.manifest)
    mark = {
        "release": str(subject.release.resolve()),
        "files": read_manifest(subject.release)["files"],
        "seed": seed,
    }
    with claimed(out, chain.dump(), resume=resume, mark=AUDIT) as knowledge:
        _remember(out / AUDIT, mark)
        known = known_flaws(subject.run, model.width)
        rows = np.flatnonzero(model.flawed(known.states, chain.settings.floor))
        progress(
            f"release {subject.release}: {count(len(known), 'known flaw')}, {len(rows):,} open"
        )
        if not knowledge.rounds():
            knowledge.add_flaws(0, known.take(rows))
            try:
                history = _history(subject)
                _audit(chain, model, knowledge, seed, len(known), history, progress)
            except SystemExit as error:
                raise PluginError("a strategy ended the audit", got=told(error)) from error
        (turn,) = knowledge.rounds()
        return Findings(
            audit=out,
            release=subject.release,
            seed=seed,
            floor=chain.settings.floor,
            turn=turn,
            regions=knowledge.regions(),
            concerns=knowledge.concerns(),
            known=len(known),
            known_open=len(rows),
            plugins=chain.plugins,
        )


def _audit(
    chain: Chain,
    model: RewardModel,
    knowledge: Knowledge,
    seed: int,
    asked: int,
    history: tuple[Released, ...],
    progress: Callable[[str], None],
) -> None:
    """Run the auditors and keep their findings as round 1; `asked` queries were spent before."""
    started = time.process_time()
    floor = chain.settings.floor
    team = RedTeam(
        built_auditors(chain.audits),
        (chain.executor, chain.executor.build()),
        floor,
        seed,
    )
    known = knowledge.flaws(model.width, before=1).ids
    log = functools.partial(_tell, knowledge)
    results = team.audit(model, 1, knowledge, progress, log, history)
    verified = verify(results, model, floor, known)
    for audit in verified:
        knowledge.add_flaws(1, audit.new)
    flaws = knowledge.flaws(model.width)
    is_open = np.ones(len(flaws), dtype=np.bool_)
    groups = group_open(flaws, is_open, model, floor)
    regions = describe(groups.flaws, groups.rows, model, 1, is_open)
    reported = sum(len(audit.result.states) for audit in verified)
    turn = Round(
        number=1,
        found=reported,
        confirmed=sum(len(audit.new) for audit in verified),
        closed=0,
        open=len(flaws),
        misses=0,
        corrections=sum(c.count for c in model.corrections),
        queries=sum(a.result.queries for a in verified) + reported + groups.queries + asked,
        seconds=time.process_time() - started,
        release=None,
        audits=team.summaries(verified),
        gates=(),
        regions=len(regions),
        open_regions=len(regions),
        remaining=unseen(groups, verified),
    )
    concerns = [concern for audit in verified for concern in audit.result.concerns]
    knowledge.finish_round(
        turn, manifest=None, closed=(), made=_now(), concerns=concerns, regions=regions
    )


def free_audit(subject: Subject) -> Path:
    """Return the directory of the next audit of a release: `RUN/audits/0001`, 0002, ..."""
    parent, taken = audits_of(subject)
    return parent / f"{(int(taken[-1].name) if taken else 0) + 1:04d}"


def audits_of(subject: Subject) -> tuple[Path, list[Path]]:
    """Return where a release's audits lie, and those that are there, the newest last."""
    parent = (subject.run or Path("runs") / f"audit-{subject.release.resolve().name}") / AUDITS
    return parent, sorted(path for path in parent.glob("[0-9]*") if path.name.isdigit())


def _remember(file: Path, mark: dict[str, Any]) -> None:
    """Keep what is audited; an audit of something else is refused."""
    if file.exists():
        try:
            there = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError("the audit cannot be gone on with", where=file, got=error) from error
        if (there.get("files"), there.get("seed")) != (mark["files"], mark["seed"]):
            raise UsageError(
                "the directory holds an audit of another release, or with another seed",
                where=file,
                got=f"{mark['release']}, seed {mark['seed']}",
                known=[f"{there.get('release')}, seed {there.get('seed')}"],
                next_step="name another directory with --out",
            )
        return
    write_synced(file, (json.dumps(mark, indent=1) + "\n").encode())


def _tell(knowledge: Knowledge, text: str) -> None:
    _log.warning(text)
    knowledge.log(1, text, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
