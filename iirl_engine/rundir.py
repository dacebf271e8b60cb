"""Whether a run may begin or go on in a directory, and nobody else meanwhile."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from iirl_engine.errors import KnowledgeError, UsageError
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import CHAIN, KNOWLEDGE, LOCK, RELEASES
from iirl_engine.release import write_synced


@contextmanager
def claimed(out: Path, chain: str, *, resume: bool, mark: str = RELEASES) -> Iterator[Knowledge]:
    """Claim a run directory for one run and yield its knowledge base.

    An attempt that made no release, because its data were unusable, say, counts as no run and
    is begun anew.

    Parameters
    ----------
    out
        The run directory; made if it does not exist.
    chain
        The effective chain, kept as `chain.toml`.
    resume
        Whether to go on with the run that the directory holds.
    mark
        What the directory holds from when on it counts as begun.

    Raises
    ------
    UsageError
        When the directory holds something else than what is asked for.
    KnowledgeError
        When another process works in it, or its knowledge base is missing or damaged.
    """
    _refuse_strangers(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK).acquire(timeout=0):
            begun = (out / mark).exists()
            if resume:
                _refuse_other_chain(out, chain)
            elif begun:
                raise UsageError(
                    "the directory holds a run already",
                    where=out,
                    next_step="go on with it by --resume, or name another directory with --out",
                )
            else:
                for leftover in out.glob(f"{KNOWLEDGE}*"):
                    leftover.unlink()
            write_synced(out / CHAIN, chain.encode())
            knowledge = Knowledge(out, create=not begun)
            try:
                yield knowledge
            finally:
                knowledge.close()
    except Timeout:
        raise KnowledgeError(
            "another process works in this run directory",
            where=out,
            next_step="wait for it, or name another directory with --out",
        ) from None


def free_folder(parent: Path, name: str) -> Path:
    """Return `parent/name`, or the first of `parent/name-2`, ... that does not exist."""
    folder, count = parent / name, 1
    while folder.exists():
        count += 1
        folder = parent / f"{name}-{count}"
    return folder


def _refuse_strangers(out: Path) -> None:
    if (out / CHAIN).exists() or (out / KNOWLEDGE).exists() or not out.exists():
        return
    strangers = sorted(path.name for path in out.iterdir() if path.name != LOCK)
    if strangers:
        raise UsageError(
            "the run directory is not empty",
            where=out,
            got=", ".join(strangers[:5]),
            next_step="name an empty or new directory with --out",
        )


def _refuse_other_chain(out: Path, chain: str) -> None:
    file = out / CHAIN
    try:
        there = _without_rounds(file.read_text())
    except FileNotFoundError:
        raise UsageError(
            "there is no run to go on with", where=out, next_step="start it without --resume"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            "the run's chain file cannot be read",
            where=file,
            got=error,
            next_step="restore it, or start a new run with another --out",
        ) from error
    if there != _without_rounds(chain):
        raise UsageError(
            "the directory holds a run of another chain",
            where=file,
            next_step="resume with the chain it was started with; only flywheel.rounds may differ",
        )


def _without_rounds(text: str) -> dict[str, Any]:
    table = tomllib.loads(text)
    table.get("flywheel", {}).pop("rounds", None)
    return table
