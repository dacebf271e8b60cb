"""The reporter `html`: report.html, one offline page that asks the network for nothing."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import jinja2
import numpy as np

from iirl_engine.api import Reporter
from iirl_engine.builtin.landscape import draw
from iirl_engine.builtin.options import HtmlOptions
from iirl_engine.counted import count
from iirl_engine.page import environment
from iirl_engine.records import Flaws, Region, Report
from iirl_engine.summary import (
    alerts,
    attempts_text,
    newest,
    number,
    plain,
    prediction_text,
    seconds,
    unfinished_text,
    unseen_lines,
    verdict,
)

FILE = "report.html"
_TEMPLATE = "report.html.jinja"
# Features listed of a wide state before the rest is only counted.
_FEATURES = 12


class Html(Reporter[HtmlOptions]):
    """Writes a page with the verdict, the reward before and after, and every round's numbers."""

    def write(self, report: Report, folder: Path) -> list[Path]:
        file = folder / FILE
        file.write_bytes(render(report, self.options).encode("utf-8", "replace"))
        return [file]


def render(report: Report, options: HtmlOptions) -> str:
    """Return the page."""
    landscape = draw(report, options.features)
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            outcome=report.outcome,
            name=report.outcome.run.name or str(report.outcome.run),
            verdict=verdict(report.outcome),
            alerts=alerts(report.outcome),
            unfinished=unfinished_text(report.outcome),
            concerns=newest(report.outcome.concerns),
            floor=report.floor,
            landscape=landscape,
            confirmed=len(report.flaws),
            flaws=list(_flaws(report, options.flaws)),
            regions=[_region(report, r) for r in report.outcome.regions[: options.flaws]],
            repairs=[
                (turn.number, told)
                for turn in report.outcome.rounds
                for told in (
                    *map(prediction_text, turn.predictions),
                    *([attempts_text(turn)] if len(turn.attempts) > 1 else ()),
                )
            ],
            left_open=report.outcome.left_open,
            unseen=[
                (turn.number, line) for turn in report.outcome.rounds for line in unseen_lines(turn)
            ],
            model=report.after,
            norms=_norms(report),
            ranges=list(_ranges(report)),
            chain=report.chain,
        )
    )


@attrs.frozen
class _Row:
    """One flaw as the page lists it."""

    id: str
    state: tuple[tuple[str, str], ...]
    left_out: int
    reward: str
    norm: str
    violation: str
    auditor: str
    evidence: str
    open: bool


@attrs.frozen
class _Place:
    """One region as the page lists it."""

    region: Region
    state: tuple[tuple[str, str], ...]
    left_out: int


def _region(report: Report, region: Region) -> _Place:
    names = report.after.demonstrations.feature_names
    box = zip(names[:_FEATURES], region.low, region.high, strict=False)
    spans = ((name, f"{low:.3g}", f"{high:.3g}") for name, low, high in box)
    state = tuple((n, low if low == high else f"{low} to {high}") for n, low, high in spans)
    return _Place(region, state, len(names) - len(state))


def _environment() -> jinja2.Environment:
    made = environment("iirl_engine.builtin")
    made.filters |= {
        "count": count,
        "number": number,
        "plain": plain,
        "seconds": seconds,
    }
    return made


def _flaws(report: Report, most: int) -> Iterator[_Row]:
    """Yield the flaws that are open, then the others, the highest reward first."""
    flaws, names = report.flaws, report.after.demonstrations.feature_names
    for i in _most_severe(flaws, report.still_open)[:most]:
        state = tuple(
            (name, f"{value:.4g}")
            for name, value in zip(names[:_FEATURES], flaws.states[i], strict=False)
        )
        yield _Row(
            id=flaws.ids[i],
            state=state,
            left_out=len(names) - len(state),
            reward=f"{flaws.rewards[i]:.3f}",
            norm=flaws.norms[i],
            violation=f"{flaws.violations[i]:.3g}",
            auditor=flaws.auditors[i],
            evidence=f"p {flaws.p_values[i]:.2g} by {flaws.methods[i]}" if flaws.methods[i] else "",
            open=bool(report.still_open[i]),
        )


def _most_severe(flaws: Flaws, still_open: np.ndarray[Any, Any]) -> list[int]:
    order = np.lexsort((np.array(flaws.ids), -flaws.violations, -flaws.rewards, ~still_open))
    return [int(i) for i in order]


def _norms(report: Report) -> tuple[tuple[str, str], ...]:
    """Return (id, what the chain says of it); a norm of the source is not in the chain."""
    steps = {step["id"]: step for step in tomllib.loads(report.chain).get("norm", [])}
    return tuple((name, _told(steps.get(name))) for name in report.after.norms)


def _told(step: Mapping[str, Any] | None) -> str:
    if step is None:
        return "brought along by the source"
    settings = [f"{key} = {value}" for key, value in step.items() if key not in ("use", "id")]
    return ", ".join([str(step["use"]), *settings])


def _ranges(report: Report) -> Iterator[tuple[str, str, str]]:
    """Yield (feature, range of the expert states, range of the domain)."""
    model = report.after
    states, domain = model.demonstrations.states, model.domain
    columns = zip(model.demonstrations.feature_names, domain.low, domain.high, strict=True)
    for i, (name, low, high) in enumerate(columns):
        if i == _FEATURES:
            break
        yield name, _range(states[:, i].min(), states[:, i].max()), _range(low, high)


def _range(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if math.isfinite(low) and math.isfinite(high) else "unknown"
