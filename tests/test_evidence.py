"""What an auditor knows of its findings reaches the knowledge base, the JSON and the reports."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_engine.audit import AuditJob, evidence, run_audit, verify
from iirl_engine.knowledge import Knowledge
from iirl_engine.records import AuditResult, Suspects
from iirl_engine.testing import fake_dist, run_chain
from iirl_engine.testing.worlds import FLOOR, Cliff

METHOD = "split-conformal, FDR 0.05"
CHAIN = """
[flywheel]
rounds = 1
[source]
use = "figure1"
[encoder]
use = "knn"
[mapping]
use = "exp"
[[norm]]
use = "support"
boundary = 0.1
[[audit]]
use = "told"
[[audit]]
use = "plain"
[[refine]]
use = "envelope"
[[report]]
use = "text"
[[report]]
use = "html"
"""
PLUGIN = """
import attrs, torch
from iirl_engine import Auditor, Offer, Suspects, hookimpl, option

IIRL_API = 1

@attrs.frozen(kw_only=True)
class Options:
    budget: int = option(10, ge=1, help="reward queries per round")

def around(target, count):
    expert = torch.tensor(target.demonstrations.states[:count])
    return (expert + 0.15 / 3**0.5).clamp(target.low, target.high)

class Told(Auditor[Options]):
    family = "out-of-distribution"
    def audit(self, target, context):
        states = around(target, 5)
        yield Suspects(states, torch.linspace(0.001, 0.004, 5), "split-conformal, FDR 0.05")

class Plain(Auditor[Options]):
    family = "adversarial"
    def audit(self, target, context):
        yield around(target, 8)

@hookimpl
def iirl_auditors():
    yield Offer("told", "told_plugin:Told", Options, "adversarial: knows how sure it is")
    yield Offer("plain", "told_plugin:Plain", Options, "adversarial: knows nothing")
"""


@attrs.frozen
class Budget:
    budget: int = 10


class Yields(iirl.Auditor[Budget]):
    """Yields what it is given."""

    family = "adversarial"
    batches: tuple[Any, ...] = ()

    def audit(self, target: Any, context: iirl.Context) -> Iterator[Tensor | Suspects]:
        yield from self.batches


def audit(*batches: Any) -> AuditResult:
    auditor = Yields(Budget())
    auditor.batches = batches
    context = iirl.Context("audit", "yields", 0, 1)
    return run_audit(AuditJob(auditor, Cliff().model, FLOOR, context))


def states(*first: float) -> Tensor:
    return torch.tensor([[value, 0.0] for value in first], dtype=torch.float64)


def test_evidence_stays_with_its_state() -> None:
    result = audit(
        states(0.8), Suspects(states(0.1, 0.9), np.array([0.5, 0.01]), METHOD), states(0.95)
    )
    assert result.status == "findings"
    (verified,) = verify([result], Cliff().model, FLOOR, ())
    flaws = verified.new
    assert flaws.states[:, 0].tolist() == [0.8, 0.9, 0.95]  # 0.1 is allowed
    assert flaws.p_values.tolist() == pytest.approx([np.nan, 0.01, np.nan], nan_ok=True)
    assert flaws.methods == ("", METHOD, "")
    assert not flaws.p_values.flags.writeable
    turned = flaws.take([1, 0])
    assert turned.p_values[0] == 0.01
    assert turned.methods == (METHOD, "")
    assert evidence(result) == f"p <= 0.5 by {METHOD}"


def test_it_survives_an_interruption(tmp_path: Path) -> None:
    told = audit(Suspects(states(0.1, 0.9), np.array([0.5, 0.01]), METHOD), states(0.8))
    plain = attrs.evolve(audit(states(0.8)), auditor="plain")
    knowledge = Knowledge(tmp_path, create=True)
    for result in (told, plain):
        knowledge.add_result(1, result)
    ended = knowledge.ended(1, 2)
    knowledge.close()
    again = ended["yields"]
    assert np.array_equal(again.states, told.states)
    assert again.p_values.tolist() == pytest.approx([0.5, 0.01, np.nan], nan_ok=True)
    assert again.methods == (METHOD, METHOD, "")
    assert ended["plain"].p_values is None
    assert ended["plain"].methods == ()


def test_without_evidence_nothing_changes() -> None:
    result = audit(states(0.8))
    assert result.p_values is None
    assert result.methods == ()
    assert evidence(result) == ""
    assert audit().status == "clean"


@pytest.mark.parametrize(
    ("p_values", "method"),
    [
        ([0.1], METHOD),
        ([0.1, 1.5], METHOD),
        ([0.1, -0.1], METHOD),
        ([0.1, np.nan], METHOD),
        ([[0.1, 0.2]], METHOD),
        ([0.1, 0.2], ""),
        ([0.1, 0.2], None),
    ],
)
def test_evidence_that_cannot_be_right_is_a_crash(p_values: Any, method: Any) -> None:
    result = audit(Suspects(states(0.8, 0.9), np.array(p_values), method))
    assert result.status == "crashed"
    assert "p-values" in result.reason


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[iirl.Outcome]:
    folder = tmp_path_factory.mktemp("plugin")
    with fake_dist(folder, "told-plugin", {"told_plugin.py": PLUGIN}, module="told_plugin"):
        yield run_chain(CHAIN, tmp_path_factory.mktemp("run"))


def test_the_knowledge_base_keeps_it(outcome: iirl.Outcome) -> None:
    knowledge = Knowledge(outcome.run)
    flaws = knowledge.flaws(3)
    (audits,) = [turn.audits for turn in knowledge.rounds()]
    knowledge.close()
    told = np.array(flaws.auditors) == "told"
    assert told.any()
    assert (~told).any()
    assert ((flaws.p_values[told] > 0) & (flaws.p_values[told] < 0.0041)).all()
    assert np.isnan(flaws.p_values[~told]).all()
    assert {flaws.methods[i] for i in np.flatnonzero(told)} == {METHOD}
    assert [audit.evidence for audit in audits] == [f"p <= 0.004 by {METHOD}", ""]
    with sqlite3.connect(outcome.run / "knowledge.sqlite") as db:
        rows = db.execute("SELECT auditor, p_value IS NULL, method IS NULL FROM flaw").fetchall()
    db.close()
    assert set(rows) == {("told", 0, 0), ("plain", 1, 1)}


def test_the_json_and_the_reports_tell_it(outcome: iirl.Outcome) -> None:
    (turn,) = json.loads(json.dumps(outcome.to_json()))["rounds"]
    assert [audit["evidence"] for audit in turn["audits"]] == [f"p <= 0.004 by {METHOD}", ""]
    text = (outcome.run / "report.txt").read_text()
    assert f"told: unlike the demonstrations, p <= 0.004 by {METHOD}" in " ".join(text.split())
    page = (outcome.run / "report.html").read_text()
    assert f"p &lt;= 0.004 by {METHOD}" in page
    assert f"p 0.001 by {METHOD}" in page
    assert '<th scope="col">Unlike the demonstrations</th>' in page
