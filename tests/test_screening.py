"""Norms screen the demonstrations before anything is learned from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import iirl_engine as iirl
from iirl_engine.errors import DataError
from iirl_engine.knowledge import Knowledge
from iirl_engine.summary import summarize
from iirl_engine.testing import run_chain

CHAIN = """
[flywheel]
rounds = 0
held_out = 0.2
[source]
use = "npz"
path = "demos.npz"
[encoder]
use = "knn"
[mapping]
use = "exp"
[[norm]]
use = "support"
[[norm]]
use = "box"
features = ["x0"]
low = [-10.0]
high = [{high}]
[[norm]]
use = "linear"
a = [0.0, 1.0]
b = 0.95
[[audit]]
use = "sobol"
budget = 100
"""


def run(folder: Path, high: float) -> iirl.Outcome:
    """Learn from points on a square grid: x0 and x1 from 0 to 1 in steps of 0.05."""
    axis = np.linspace(0, 1, 21)
    states = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    np.savez(folder / "demos.npz", states=states)
    return run_chain(CHAIN.format(high=high), folder)


def test_forbidden_demonstrations_are_left_out_and_counted(tmp_path: Path) -> None:
    outcome = run(tmp_path, high=0.501)
    told = outcome.to_json()["demonstrations"]
    reward = iirl.load_release(outcome.release)
    states, held_out = reward.demonstrations.states, reward.demonstrations.held_out
    for kept in (states, held_out):
        assert len(kept)
        assert (kept[:, 0] <= 0.501).all()
        assert (kept[:, 1] <= 0.95 + 1e-12).all()
    assert told["kept"] == len(states)
    assert told["loaded"] == 441 - int(0.2 * 441)
    assert set(told["dropped"]) == {"box", "linear"}
    both = told["dropped"]["box"] + told["dropped"]["linear"]
    assert both > told["loaded"] - told["kept"]  # in the corner both norms forbid
    assert told["span"] == {"feature": "x0", "share": pytest.approx(0.5)}
    # Twice the step reaches x0 = 0.6: columns 0.65 to 1 are a hole.
    assert told["covered"] == pytest.approx(13 / 21, abs=0.04)
    manifest = json.loads((outcome.release / "manifest.json").read_text())
    assert manifest["screening"] == told
    assert "box forbids" in (outcome.release / "CARD.md").read_text()
    summary = " ".join(summarize(outcome).split())
    assert "linear" in summary
    assert "x0 spans 50% of its range" in summary
    assert any("box forbids" in text for text in events(tmp_path))


def test_nothing_is_left_out_where_nothing_is_forbidden(tmp_path: Path) -> None:
    np.savez(tmp_path / "demos.npz", states=np.random.default_rng(0).random((50, 2)) * 0.9)
    told = run_chain(CHAIN.format(high=2.0), tmp_path).to_json()["demonstrations"]
    assert told == {
        "loaded": 40,
        "kept": 40,
        "dropped": {},
        "covered": 1.0,
        "span": {"feature": "x0", "share": 1.0},
    }


def test_norms_that_forbid_everything_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="forbid every demonstration") as error:
        run(tmp_path, high=-1.0)
    assert "box" in str(error.value)
    assert not list((tmp_path / "run/releases").glob("*"))


def events(folder: Path) -> list[str]:
    knowledge = Knowledge(folder / "run")
    try:
        return [text for _, _, text in knowledge.events()]
    finally:
        knowledge.close()
