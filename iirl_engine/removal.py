"""What a release is without some of its corrections: what changes, and how it is written."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import UsageError, did_you_mean
from iirl_engine.formula import formula_of
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import CARD, CHAIN, MANIFEST, RELEASES, TENSORS
from iirl_engine.release import load_release, read_manifest, write_files
from iirl_engine.release_audit import Subject, find_subject, known_flaws
from iirl_engine.reward import RewardModel
from iirl_engine.rundir import claimed

Array = NDArray[np.float64]


@attrs.frozen
class Change:
    """How a reward changes over some states.

    Parameters
    ----------
    states
        How many there are.
    mean
        Mean reward after minus mean reward before.
    most
        The largest change of any, in size.
    endorsed
        How many are above the floor after and were not before.
    """

    states: int
    mean: float
    most: float
    endorsed: int


@attrs.frozen
class Preview:
    """What taking corrections away would do.

    Parameters
    ----------
    ids
        Of the corrections.
    known
        Confirmed flaws that the release's run knows of; 0 where it lies in none.
    reopened
        Ids of those that are closed and would be open.
    demonstrations
        Over the expert states.
    asked
        Over other states, where some were given.
    """

    ids: tuple[str, ...]
    known: int
    reopened: tuple[str, ...]
    demonstrations: Change
    asked: Change | None = None


@attrs.frozen
class Removed:
    """A release that was made by taking corrections away.

    Parameters
    ----------
    release
        Its directory.
    left
        Ids of the corrections that it still has.
    as_learned
        Files that are release 0's, byte for byte; None where it lies in no run.
    """

    release: Path
    left: tuple[str, ...]
    as_learned: tuple[str, ...] | None


def newest_subject(folder: Path) -> Subject:
    """Return the release that a directory means: itself, or the newest one of a run.

    Raises
    ------
    UsageError, ArtifactError
        When it is neither, or the run made no release.
    """
    if not (folder / RELEASES).is_dir():
        return find_subject(folder)
    knowledge = Knowledge(folder)
    try:
        releases = knowledge.releases()
    finally:
        knowledge.close()
    if not releases:
        return find_subject(folder)
    number = max(releases)
    return Subject(folder / RELEASES / f"{number:04d}", releases[number], folder)


def without(model: RewardModel, ids: Sequence[str]) -> RewardModel:
    """Return a reward without some of its corrections, by id.

    Raises
    ------
    UsageError
        When it has no such correction.
    """
    known = [correction.id for correction in model.corrections]
    for name in ids:
        if name not in known:
            raise UsageError(
                f"the release has no correction {name!r}",
                known=known or "none: it is the reward as learned",
                next_step=did_you_mean(name, known) or "iirl corrections list says which there are",
            )
    return model.evolve(corrections=[c for c in model.corrections if c.id not in ids])


def preview(subject: Subject, ids: Sequence[str], states: Array | None = None) -> Preview:
    """Return what would change if corrections were taken away.

    Parameters
    ----------
    subject
        The release.
    ids
        Of the corrections.
    states
        `[n, d]` further states to look at.
    """
    model = load_release(subject.release, manifest=subject.manifest)
    floor = float(read_manifest(subject.release)["floor"])
    after = without(model, ids)
    flaws = known_flaws(subject.run, model.width)
    opens = np.zeros(len(flaws), dtype=np.bool_)
    if len(flaws):
        opens = (model(flaws.states) <= floor) & (after(flaws.states) > floor)
    return Preview(
        tuple(ids),
        len(flaws),
        tuple(flaws.ids[row] for row in np.flatnonzero(opens)),
        _change(model, after, model.demonstrations.states, floor),
        None if states is None else _change(model, after, states, floor),
    )


def _change(before: RewardModel, after: RewardModel, states: Array, floor: float) -> Change:
    if not len(states):
        return Change(0, 0.0, 0.0, 0)
    was, now = before(states), after(states)
    newly = int(((was <= floor) & (now > floor)).sum())
    return Change(len(states), float((now - was).mean()), float(np.abs(now - was).max()), newly)


def remove(subject: Subject, told: Preview, out: Path | None) -> Removed:
    """Write the release without corrections; the one it was made from stays as it is.

    Without any correction left, what is written to a directory of its own is release 0 again: it
    has its number, and neither gates nor audits stand behind it.

    Parameters
    ----------
    subject
        The release, the newest one of its run where `out` is None.
    told
        What is taken away, and what that reopens.
    out
        Directory to write it to; None makes the next release of the run. It is not made stable.

    Raises
    ------
    UsageError
        When the directory is not empty, or no run can have a next release after this one.
    """
    model = load_release(subject.release, manifest=subject.manifest)
    manifest = read_manifest(subject.release)
    digest = hashlib.sha256((subject.release / MANIFEST).read_bytes()).hexdigest()
    after = without(model, told.ids)
    if not after.corrections:
        after = after.evolve(probes=model.probes[:0])
    manifest |= {"corrections": [c.describe() for c in after.corrections], "gates": []}
    del manifest["files"]
    manifest.pop("removed", None)
    taken = {"removed": {"from": digest, "corrections": list(told.ids)}}
    if out is not None:
        if out.exists() and any(out.iterdir()):
            raise UsageError("the directory is not empty", where=out)
        manifest |= taken if after.corrections else {"release": 0}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_files(out, after, manifest)
        folder = out
    else:
        folder = _next_release(subject, told, after, manifest | taken)
    return Removed(folder, tuple(c.id for c in after.corrections), _as_learned(folder, subject.run))


def _next_release(
    subject: Subject, told: Preview, after: RewardModel, manifest: dict[str, object]
) -> Path:
    """Write a run's next release, and name it in the knowledge base."""
    run = subject.run
    if run is None:
        raise UsageError(
            "the release lies in no run that could have a next one",
            where=subject.release,
            next_step="name a directory for it with --out",
        )
    with claimed(run, (run / CHAIN).read_text(), resume=True) as knowledge:
        newest = max(knowledge.releases())
        if int(subject.release.name) != newest:
            raise UsageError(
                f"only the newest release, {newest:04d}, can be followed by another",
                where=subject.release,
                next_step="name a directory for it with --out",
            )
        folder = run / RELEASES / f"{newest + 1:04d}"
        digest = write_files(folder, after, manifest | {"release": newest + 1})
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        knowledge.add_release(newest + 1, digest, now, formula_of(after).fingerprints())
        knowledge.reopen(told.reopened)
        text = f"release {newest + 1:04d} is without corrections {', '.join(told.ids)}"
        knowledge.log(len(knowledge.rounds()), text, now)
    return folder


def _as_learned(folder: Path, run: Path | None) -> tuple[str, ...] | None:
    """Return which files of a release are those of release 0 of a run, byte for byte."""
    if run is None or not (run / RELEASES / "0000").is_dir():
        return None
    return tuple(
        name
        for name in (TENSORS, MANIFEST, CARD)
        if (folder / name).read_bytes() == (run / RELEASES / "0000" / name).read_bytes()
    )
