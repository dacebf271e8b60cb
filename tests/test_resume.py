"""An interrupted round loses no audit that had ended, and goes on to the same result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from torch import Tensor

from iirl_auditors.adversarial.pgd import Pgd
from iirl_auditors.out_of_distribution.sobol import Sobol
from iirl_engine.audit import AuditJob
from iirl_engine.flywheel import Flywheel
from iirl_engine.knowledge import Knowledge
from iirl_engine.records import AuditResult, Outcome
from tests.figure1_world import KNN

CHAIN = f"""
report = []
[flywheel]
rounds = 2
{KNN}[[audit]]
use = "sobol"
budget = 512
[[audit]]
use = "pgd"
budget = 512
steps = 4
[[refine]]
use = "envelope"
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    return file


def timeless(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the rounds without their seconds, which no two runs share."""
    rounds = outcome.to_json()["rounds"]
    for turn in rounds:
        turn.pop("seconds")
        for audit in turn["audits"]:
            audit.pop("seconds")
    return rounds


def stop(self: Any, target: Any, context: Any) -> Iterator[Tensor]:
    raise KeyboardInterrupt


def test_audits_that_ended_are_not_run_again(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Flywheel.from_file(chain, out=tmp_path / "whole").run()
    cut = Flywheel.from_file(chain, out=tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Pgd, "audit", stop)
        with pytest.raises(KeyboardInterrupt):
            cut.run()
    knowledge = Knowledge(cut.out)
    assert list(knowledge.ended(1, 3)) == ["sobol"]
    assert len(knowledge.ended(1, 3)["sobol"].states) > 0
    knowledge.close()

    ran: list[str] = []
    run = AuditJob.run

    def watched(self: AuditJob) -> AuditResult:
        ran.append(f"{self.context.round} {self.context.id}")
        return run(self)

    told: list[str] = []
    monkeypatch.setattr(AuditJob, "run", watched)
    resumed = cut.run(resume=True, progress=told.append)
    assert ran == ["1 pgd", "2 sobol", "2 pgd"]
    assert "round 1: sobol had ended before the interruption" in told
    assert timeless(resumed) == timeless(whole)
    for number in ("0000", "0001"):
        files = [o / "releases" / number / "tensors.safetensors" for o in (whole.run, resumed.run)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_crashed_audit_is_kept_as_that(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, target: Any, context: Any) -> Iterator[Tensor]:
        yield target.low[None]
        raise RuntimeError("no more")

    cut = Flywheel.from_file(chain, out=tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Sobol, "audit", broken)
        patch.setattr(Pgd, "audit", stop)
        with pytest.raises(KeyboardInterrupt):
            cut.run()
    outcome = cut.run(resume=True)
    assert outcome.rounds[0].audits[0].status == "crashed"
    assert "no more" in outcome.rounds[0].audits[0].reason


def test_a_result_comes_back_from_the_knowledge_base_as_it_was(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(5, 3))
    result = AuditResult("a", "findings", states, 7, 0.1, "why\ud800", states[:0])
    knowledge = Knowledge(tmp_path, create=True)
    knowledge.add_result(1, result)
    knowledge.add_result(1, attrs.evolve(result, auditor="b", probes=states))
    again = knowledge.ended(1, 3)
    assert list(again) == ["a", "b"]
    assert np.array_equal(again["a"].states, states)
    assert again["a"].probes.shape == (0, 3)
    assert np.array_equal(again["b"].probes, states)
    assert (again["a"].status, again["a"].queries, again["a"].seconds) == ("findings", 7, 0.1)
    assert knowledge.ended(2, 3) == {}
    knowledge.close()
