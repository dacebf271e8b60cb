"""Demands that contradict each other are named; nothing is repaired in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iirl_engine import cli
from iirl_engine.knowledge import Knowledge
from iirl_engine.testing import fake_dist
from tests.edge_world import WORLD

PLUGIN = """
import attrs
import torch

from iirl_engine import Auditor, Offer, hookimpl, option

IIRL_API = 1


@attrs.frozen(kw_only=True)
class Options:
    budget: int = option(10, ge=1, help="reward queries per round")
    by: float = option(1e-12, help="how far beyond the limit")


class Edge(Auditor[Options]):
    family = "adversarial"

    def audit(self, target, context):
        yield torch.tensor([[0.5 + self.options.by, 0.0], [0.9, 0.9]], dtype=torch.float64)


@hookimpl
def iirl_auditors():
    yield Offer("edge", "edge_plugin:Edge", Options, "adversarial: looks at an edge")
"""

CHAIN = f"""
[flywheel]
rounds = 2
{WORLD}
[[audit]]
use = "edge"
[[refine]]
use = "norm-mask"
[[refine]]
use = "kernel-lp"
[[gate]]
use = "known-good"
[[gate]]
use = "closure"
[[report]]
use = "text"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    work, site = tmp_path / "work", tmp_path / "site"
    work.mkdir()
    site.mkdir()
    files = {"edge_plugin.py": PLUGIN}
    with fake_dist(site, "edge-plugin", files, module="edge_plugin"):
        yield work


def run(
    folder: Path, known_good: list[list[float]], capsys: pytest.CaptureFixture[str], *sets: str
) -> tuple[int, str, dict[str, Any]]:
    """Run the chain; return exit code, what it said, and its JSON."""
    states = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 2))
    np.savez(folder / "demos.npz", states=states, known_good=np.array(known_good))
    (folder / "chain.toml").write_text(CHAIN)
    options = [part for text in sets for part in ("--set", text)]
    said, codes = [], set()
    for out, extra in (("run", []), ("json", ["--json"])):
        with pytest.raises(SystemExit) as ended:
            cli.main(
                ["run", str(folder / "chain.toml"), "--out", str(folder / out), *options, *extra]
            )
        codes.add(int(str(ended.value.code)))
        said.append(capsys.readouterr().out)
    (code,) = codes
    return code, " ".join(said[0].split()), json.loads(said[1])


@pytest.mark.parametrize("cap", ["0.1", "0.0"])
def test_a_flaw_that_lies_on_a_known_good_state_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], cap: str
) -> None:
    code, said, told = run(
        folder, [[0.1, 0.1], [0.5, 0.0]], capsys, f"gate.known-good.max_loss={cap}"
    )
    assert code == 1
    (conflict,) = told["rounds"][0]["conflicts"]
    assert conflict["state"] == [0.5 + 1e-12, 0.0]
    assert conflict["good_state"] == [0.5, 0.0]
    assert conflict["row"] == 51
    assert conflict["distance"] == pytest.approx(1e-12, rel=1e-3)
    assert conflict["reward"] == pytest.approx(conflict["good_reward"], abs=1e-6)
    assert conflict["cap"] == float(cap)
    assert "!! cannot be met: norm box forbids (0.5, 0), reward 0.9" in said
    assert "known-good state 51 at (0.5, 0), reward 0.9" in said
    assert f"may lose {float(cap):.3g}" in said
    assert "failed: " in said
    assert "1 demand cannot be met" in said
    # What can be mended is, and nothing is hidden: one flaw is open, and it says why.
    assert told["open_flaws"] == 1
    (left,) = told["left_open"]
    assert left["flaws"] == 1
    assert left["reason"].startswith("cannot be met: norm box forbids")
    assert left["example"] == conflict["flaw"]
    knowledge = Knowledge(folder / "run")
    assert knowledge.rounds()[0].conflicts[0].row == 51
    knowledge.close()
    report = " ".join((folder / "run" / "report.txt").read_text().split())
    assert "cannot be met: norm box forbids (0.5, 0)" in report


def test_a_cap_that_allows_it_is_no_conflict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, told = run(folder, [[0.5, 0.0]], capsys, "gate.known-good.max_loss=1.0")
    assert all(not turn["conflicts"] for turn in told["rounds"])


def test_a_flaw_that_can_be_told_apart_is_closed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, told = run(folder, [[0.4, 0.0]], capsys, "audit.edge.by=0.05")
    assert code == 0, said
    assert told["open_flaws"] == 0


def test_what_the_source_calls_known_good_and_a_norm_forbids_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, told = run(folder, [[0.1, 0.1], [0.7, 0.3]], capsys, "audit.edge.by=0.05")
    assert code == 1
    for turn in told["rounds"]:
        (conflict,) = turn["conflicts"]
        assert conflict["flaw"] == ""
        assert (conflict["row"], conflict["state"]) == (1, [0.7, 0.3])
    assert "cannot be met: norm box forbids (0.7, 0.3), reward 0.8" in said
    assert "and the source calls it known good (row 1)" in said
    assert told["open_flaws"] == 0
