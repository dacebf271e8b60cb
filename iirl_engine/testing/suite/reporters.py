"""Reporters: they write under their folder only, also when nothing was found."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iirl_engine.records import AuditSummary, Outcome, Report, Round
from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.refiners import repair
from iirl_engine.testing.worlds import FLOOR, Bowl, Flat, World


def report(world: World, folder: Path) -> Report:
    """Return a report of one round in a world, everything found still open."""
    flaws = repair(world).flaws
    count = len(flaws)
    audit = AuditSummary("uniform", "findings" if count else "clean", count, count, 1000, 0.1)
    finished = Round(1, count, count, 0, count, 0, 0, 2000, 0.2, None, (audit,), ())
    outcome = Outcome(folder, folder / "releases" / "0000", (finished,), count, (("acme", "1"),))
    still_open = world.model(flaws.states) > FLOOR
    return Report(outcome, world.model, world.model, flaws, still_open, FLOOR, "[flywheel]\n")


@check("reporter")
def files_stay_under_the_folder(subject: Subject) -> None:
    """With and without flaws, files are written under the given folder and nowhere else."""
    for world in (Flat(), Bowl()):
        with _two_folders() as (folder, beside):
            files = subject.build().write(report(world, folder), folder)
            written = [path for path in folder.rglob("*") if path.is_file()]
            require(sorted(files) == sorted(written), f"it wrote {written} and returned {files}")
            strays = [path for path in beside.rglob("*") if path.is_file()]
            require(not strays, f"it wrote {strays} in the current folder")
            require(all(path.stat().st_size for path in files), "a file is empty")


@contextlib.contextmanager
def _two_folders() -> Iterator[tuple[Path, Path]]:
    """Yield a folder to write to, and the current one, where nothing may appear."""
    with (
        tempfile.TemporaryDirectory() as here,
        tempfile.TemporaryDirectory() as beside,
        contextlib.chdir(beside),
    ):
        yield Path(here), Path(beside)
