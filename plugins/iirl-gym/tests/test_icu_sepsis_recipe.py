"""The demo `icu-sepsis`: a reward learned from clinicians tells how well a patient is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import iirl_engine as iirl
from iirl_gym.sepsis import read_world

LEAST = 0.70
# The recipe has 1,000: the reward of fewer orders states a little worse, in a fifth of the time.
PATIENTS = 300


def call(*arguments: str) -> Any:
    command = [sys.executable, "-m", "iirl_engine", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("icu-sepsis") / "run"
    fewer = f"source.patients={PATIENTS}"
    outcome = json.loads(call("demo", "icu-sepsis", "--json", "--out", str(folder), "--set", fewer))
    assert outcome["open_flaws"] == 0
    return folder


@pytest.fixture(scope="module")
def reward(out: Path) -> iirl.RewardModel:
    return iirl.load_release(out)


def test_it_rises_with_the_exact_probability_of_survival(reward: iirl.RewardModel) -> None:
    """Over the 713 states, and over the states of patients that nothing was learned from."""
    world = read_world()
    value, learned = world.survival(world.clinicians), reward(world.centres)
    assert spearmanr(learned, value)[0] >= LEAST
    visited = world.treat(world.clinicians, 1000, np.random.default_rng(99)).state
    assert spearmanr(learned[visited], value[visited])[0] >= LEAST


def test_evaluate_reports_it_for_each_policy(out: Path, tmp_path: Path) -> None:
    call("icu-sepsis", str(tmp_path / "policies"))
    found = json.loads(
        call("evaluate", str(out), "--policies", str(tmp_path / "policies"), "--json")
    )
    assert found["pooled"]["value_spearman"] >= LEAST
    rows = {row["name"]: row["value_spearman"] for row in found["policies"]}
    assert set(rows) == {"expert", "random", "optimal"}
    assert min(rows.values()) >= LEAST


def test_patients_that_were_held_out_keep_their_reward(out: Path, reward: iirl.RewardModel) -> None:
    before = iirl.load_release(out / "releases" / "0000")
    held_out = reward.demonstrations.held_out
    assert len(held_out) > PATIENTS
    assert reward(held_out).mean() >= 0.95 * before(held_out).mean() > 0.5


def test_a_patient_like_no_other_is_not_endorsed(out: Path, reward: iirl.RewardModel) -> None:
    strange = np.random.default_rng(0).uniform(reward.domain.low, reward.domain.high, (1000, 47))
    far = reward.violation(torch.tensor(strange)).numpy() > 0
    assert far.mean() > 0.9
    assert (iirl.load_release(out / "releases" / "0000")(strange[far]) > 0.01).any()
    assert (reward(strange[far]) <= 0.01).all()
