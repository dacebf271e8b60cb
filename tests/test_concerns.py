"""Concerns: what no norm can decide is kept and shown everywhere, and opens no flaw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from iirl_auditors.out_of_distribution.options import SobolOptions
from iirl_auditors.out_of_distribution.sobol import Sobol
from iirl_engine import ArtifactError, Concern, Context, load_release
from iirl_engine.audit import AuditJob, run_audit
from iirl_engine.builtin import html, text
from iirl_engine.cli import main
from iirl_engine.cli.run import exit_code
from iirl_engine.knowledge import Knowledge
from iirl_engine.records import AuditResult, Outcome
from iirl_engine.summary import newest, summarize, verdict
from iirl_engine.testing import run_chain
from iirl_engine.testing.worlds import Bowl
from tests.figure1_world import KNN

CHAIN = f"""
[flywheel]
rounds = 2
{KNN}[[audit]]
use = "sobol"
budget = 64
[[refine]]
use = "envelope"
[[report]]
use = "html"
[[report]]
use = "text"
"""
STILL = Concern(
    "standing-still",
    "Standing still earns as much as the expert.",
    {"share": 1.04},
    np.zeros((2, 3)),
)


def saying(*concerns: Any) -> Any:
    def audit(self: Any, target: Any, context: Context) -> Iterator[Any]:
        yield from concerns

    return audit


def audited(*said: Any, monkeypatch: pytest.MonkeyPatch) -> AuditResult:
    monkeypatch.setattr(Sobol, "audit", saying(*said))
    job = AuditJob(Sobol(SobolOptions()), Bowl(3).model, 0.01, Context("audit", "a", 0, 4))
    return run_audit(job)


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *said: Concern) -> Outcome:
    monkeypatch.setattr(Sobol, "audit", saying(*said))
    return run_chain(CHAIN, tmp_path)


def test_a_concern_is_kept_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.arange(60.0).reshape(20, 3)
    result = audited(attrs.evolve(STILL, states=states), monkeypatch=monkeypatch)
    (kept,) = result.concerns
    assert (kept.auditor, kept.round, kept.kind) == ("a", 4, "standing-still")
    assert result.status == "clean"
    assert len(result.states) == 0
    assert kept.states is not None
    assert np.array_equal(kept.states, states[:16].double().numpy())
    assert not kept.states.flags.writeable
    states.zero_()
    assert kept.states[0, 1] == 1.0
    assert json.loads(json.dumps(kept.to_json()))["numbers"] == {"share": 1.04}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "Standing still"}, "kebab-case"),
        ({"kind": 3}, "kebab-case"),
        ({"text": "  "}, "without a text"),
        ({"numbers": {"share": float("nan")}}, "'share' is not finite"),
        ({"numbers": {"share": 1e400}}, "'share' is not finite"),
        ({"states": np.full((1, 3), np.nan)}, "NaN or Inf"),
        ({"states": np.zeros((1, 2))}, "not \\[m, 3\\]"),
    ],
)
def test_a_concern_that_cannot_be_kept_is_a_crash(
    changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = audited(STILL, attrs.evolve(STILL, **changes), monkeypatch=monkeypatch)
    assert result.status == "crashed"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(result.reason)
    assert len(result.concerns) == 1


def test_a_concern_is_told_everywhere_and_opens_no_flaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run(tmp_path, monkeypatch, STILL)
    (turn,) = outcome.rounds
    assert (turn.confirmed, turn.open, turn.release) == (0, 0, None)
    assert turn.audits[0].status == "clean"
    assert turn.audits[0].concerns == 1
    assert outcome.ok
    assert exit_code(outcome) == 0
    load_release(outcome.run)
    assert verdict(outcome).level == "caution"
    assert "1 concern needs a person's judgement" in verdict(outcome).text
    told = ("standing-still", "Standing still earns as much as the expert.", "1.04")
    for shown in (
        " ".join(summarize(outcome).split()),
        " ".join((outcome.run / text.FILE).read_text().split()),
        (outcome.run / html.FILE).read_text(),
    ):
        assert all(part in shown for part in told)
    (said,) = outcome.to_json()["concerns"]
    assert said["states"] == [[0.0] * 3] * 2
    with pytest.raises(SystemExit, match="0"):
        main(["status", str(outcome.run)])
    assert "concern:    round 1, sobol, standing-still: Standing" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["status", str(outcome.run), "--json"])
    assert json.loads(capsys.readouterr().out)["concerns"] == [said]


def test_a_grave_concern_makes_no_release_stable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path, monkeypatch, attrs.evolve(STILL, grave=True))
    assert len(outcome.rounds) == 2
    assert not outcome.ok
    assert exit_code(outcome) == 3
    assert verdict(outcome).level == "failed"
    assert "audit sobol has a grave concern" in verdict(outcome).text
    assert "?? GRAVE round 2" in summarize(outcome)
    assert 'class="alarm"><td class="n">2</td>' in (outcome.run / html.FILE).read_text()
    with pytest.raises(ArtifactError, match="no stable release"):
        load_release(outcome.run)


def test_concerns_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = audited(STILL, monkeypatch=monkeypatch)
    knowledge = Knowledge(tmp_path, create=True)
    knowledge.add_result(4, result)
    knowledge.close()
    again = Knowledge(tmp_path).ended(4, 3)["a"].concerns
    assert [c.to_json() for c in again] == [c.to_json() for c in result.concerns]


def test_the_newest_of_each_kind_is_listed() -> None:
    said = [
        attrs.evolve(STILL, auditor=auditor, round=number, kind=kind)
        for number in (1, 2)
        for auditor in ("a", "b")
        for kind in ("x", "y")
        if not (number == 2 and kind == "y")
    ]
    assert [(c.auditor, c.kind, c.round) for c in newest(said)] == [
        ("a", "x", 2),
        ("a", "y", 1),
        ("b", "x", 2),
        ("b", "y", 1),
    ]


def test_what_concerns_say_cannot_harm_a_terminal_or_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = attrs.evolve(STILL, text="\x1b[31m<script>alert(1)</script>\nx", numbers={"<b>": 1.0})
    outcome = run(tmp_path, monkeypatch, said)
    assert "\x1b" not in summarize(outcome)
    page = (outcome.run / html.FILE).read_text()
    assert "<script>alert" not in page
    assert "<i><b></i>" not in page
