"""The demo `pointmaze`: no state inside a wall or far from the experts stays endorsed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_gym.options import PointMazeOptions
from iirl_gym.pointmaze import PointMaze

FLOOR = 0.01


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pointmaze") / "run"
    command = [sys.executable, "-m", "iirl_engine", "demo", "pointmaze", "--json"]
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["open_flaws"] == 0
    return folder


@pytest.fixture(scope="module")
def before(out: Path) -> iirl.RewardModel:
    return iirl.load_release(out / "releases" / "0000")


@pytest.fixture(scope="module")
def after(out: Path) -> iirl.RewardModel:
    return iirl.load_release(out)


@pytest.fixture(scope="module")
def fresh(after: iirl.RewardModel) -> np.ndarray:
    """100,000 points of the domain that no auditor saw."""
    low, high = np.array(after.domain.low), np.array(after.domain.high)
    return np.random.default_rng(20261123).uniform(low, high, (100_000, 4))


def worst(model: iirl.RewardModel, states: np.ndarray, prefix: str) -> np.ndarray:
    norms = [norm for name, norm in model.norms.items() if name.startswith(prefix)]
    given = torch.tensor(states)
    return np.max([norm.violation(given).numpy() for norm in norms], axis=0)


def test_before_walls_and_far_places_are_endorsed(
    before: iirl.RewardModel, fresh: np.ndarray
) -> None:
    endorsed = before(fresh) > FLOOR
    assert (endorsed & (worst(before, fresh, "wall") > 0)).sum() > 100
    assert (endorsed & (worst(before, fresh, "support") > 0)).sum() > 100


def test_after_no_fresh_point_that_violates_a_norm_is_endorsed(
    after: iirl.RewardModel, fresh: np.ndarray
) -> None:
    forbidden = worst(after, fresh, "") > 0
    assert forbidden.sum() > 50_000
    assert (after(fresh[forbidden]) <= FLOOR).all()


def test_after_no_point_just_inside_a_wall_is_endorsed(after: iirl.RewardModel) -> None:
    """Points on the way from demonstrations into walls: the hardest for a distance alone."""
    generator = np.random.default_rng(7)
    expert = after.demonstrations.states
    states = expert[generator.integers(len(expert), size=100_000)].copy()
    states[:, :2] += generator.normal(0, 0.3, (100_000, 2))
    inside = states[worst(after, states, "wall") > 0]
    assert len(inside) > 5_000
    assert (after(inside) <= FLOOR).all()


def test_held_out_demonstrations_keep_their_reward(
    before: iirl.RewardModel, after: iirl.RewardModel
) -> None:
    source = PointMaze(PointMazeOptions(states=8000))
    held_out = source.load(iirl.Context("source", "pointmaze", 999, 0)).states
    assert before(held_out).mean() > 0.5
    assert after(held_out).mean() >= 0.95 * before(held_out).mean()
