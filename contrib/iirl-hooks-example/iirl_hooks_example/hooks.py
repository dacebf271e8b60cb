"""Which hook does what; imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iirl_engine import hookimpl
from iirl_hooks_example.metrics import record
from iirl_hooks_example.notify import notify
from iirl_hooks_example.policy import objection

if TYPE_CHECKING:
    from iirl_engine.evidence import Candidate, Evidence
    from iirl_engine.records import FlawsFound, ReleaseMade, RoundFinished, RunStarted

IIRL_API = 1


@hookimpl
def iirl_run_started(event: RunStarted) -> None:
    """Tell that a run begins, and on which data."""
    notify("run started", run=event.run, data=event.data)


@hookimpl
def iirl_flaws_found(event: FlawsFound) -> None:
    """Tell how many flaws a round confirmed, and of which norms."""
    norms = sorted(set(event.flaws.norms))
    notify("flaws found", run=event.run, round=event.round, count=len(event.flaws), norms=norms)


@hookimpl
def iirl_release_made(event: ReleaseMade) -> None:
    """Tell where the new release lies, and the hash that identifies it."""
    notify("release made", run=event.run, release=event.release, manifest=event.manifest)


@hookimpl
def iirl_round_finished(event: RoundFinished) -> None:
    """Keep the numbers of the round."""
    record(event.run, event.round)


@hookimpl
def iirl_veto(candidate: Candidate, evidence: Evidence) -> str | None:
    """Let nothing be released that was learned from data that nobody approved."""
    return objection(evidence.data)
