"""The reporter `text`: report.txt, for terminals, mails and diffs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iirl_engine.api import Reporter
from iirl_engine.counted import count
from iirl_engine.options import NoOptions
from iirl_engine.records import Outcome, Report, Round
from iirl_engine.summary import (
    attempt_text,
    audits_table,
    gate_lines,
    number,
    plain,
    prediction_text,
    regions_table,
    summarize,
    unseen_lines,
    wrap,
)

FILE = "report.txt"
_REGIONS = 20


class Text(Reporter[NoOptions]):
    """Writes the summary of `iirl run`, and what every round, gate and plugin did."""

    def write(self, report: Report, folder: Path) -> list[Path]:
        file = folder / FILE
        file.write_bytes(render(report).encode("utf-8", "replace"))
        return [file]


def render(report: Report) -> str:
    """Return the whole report as text."""
    parts = [
        summarize(report.outcome).splitlines(),
        *(list(_round(turn)) for turn in report.outcome.rounds),
        list(_regions(report.outcome)),
        list(_reward(report)),
        list(_plugins(report.outcome)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _round(turn: Round) -> Iterator[str]:
    yield _heading(f"Round {turn.number}")
    yield from audits_table(turn)
    for line in unseen_lines(turn):
        yield from wrap(line, "  ")
    if turn.predictions:
        yield "repair"
    for prediction in turn.predictions:
        yield from wrap(f"  {plain(prediction_text(prediction))}", "    ")
    if len(turn.attempts) > 1:
        yield "candidates"
        for attempt in turn.attempts:
            yield from wrap(f"  {plain(attempt_text(attempt))}", "    ")
    if turn.gates:
        yield "gates"
    for gate in turn.gates:
        yield from gate_lines(gate)
    for reason in turn.vetoes:
        yield from wrap(f"  VETOED   by {plain(reason)}", " " * 11)
    made = "no release" if turn.release is None else f"release {turn.release}"
    yield f"made {made}"


def _regions(outcome: Outcome) -> Iterator[str]:
    if outcome.regions:
        yield _heading("Regions of flaws")
        yield from regions_table(outcome.regions[:_REGIONS])
        if len(outcome.regions) > _REGIONS:
            yield f"and {len(outcome.regions) - _REGIONS:,} more"


def _reward(report: Report) -> Iterator[str]:
    data = report.after.demonstrations
    yield _heading("Reward")
    yield from wrap(
        f"learned from {count(len(data.states), 'expert state')} with "
        f"{count(report.after.width, 'feature')} ({plain(data.origin) or 'origin unknown'})"
    )
    yield from wrap(f"norms: {', '.join(map(plain, report.after.norms))}", "  ")
    if not report.after.corrections:
        yield "corrections: none"
        return
    yield "corrections"
    for entry in report.after.corrections:
        yield from wrap(
            f"  {plain(entry.id)}: {number(entry.count)} of kind {entry.kind}, proposed in round "
            f"{entry.round} by {plain(entry.refiner)}",
            "    ",
        )


def _plugins(outcome: Outcome) -> Iterator[str]:
    yield _heading("Plugins")
    for dist, version in outcome.plugins:
        yield from wrap(f"{plain(dist)} {plain(version)}", "  ")
    for gone in outcome.missing:
        yield from wrap(f"since the run: {plain(gone)}", "  ")


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"
