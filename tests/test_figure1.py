"""The demo `figure1`: counted on the grid, against the promise of at most 3 rounds."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

import iirl_engine as iirl
from iirl_engine.builtin.figure1 import BOUNDARY, curve, grid
from iirl_engine.testing import run_chain
from tests.figure1_world import autoencoders

# A quick version with every refiner that draws at random.
SMALL = """
report = []
[flywheel]
rounds = 2
seed = {seed}
{world}
[[audit]]
use = "sobol"
budget = 512
[[audit]]
use = "ray"
budget = 512
[[audit]]
use = "pgd"
budget = 640
[[refine]]
use = "kernel-lp"
[[refine]]
use = "envelope"
""".replace("{world}", autoencoders(100))
FLOOR = 0.01
CAP = 0.10


def demo(out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "iirl_engine", "demo", "figure1", "--json", "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("figure1") / "run"


@pytest.fixture(scope="module")
def outcome(out: Path) -> dict[str, Any]:
    return demo(out)


@pytest.fixture(scope="module")
def rewards(outcome: dict[str, Any], out: Path) -> list[np.ndarray]:
    """Reward of the 8,000 cells under release 0, 1, ..."""
    releases = sorted((out / "releases").iterdir())
    return [iirl.load_release(folder)(grid()) for folder in releases]


def is_good() -> np.ndarray:
    return cKDTree(curve()).query(grid())[0] <= BOUNDARY


def test_the_world_is_that_of_the_paper() -> None:
    assert curve().shape == (20, 3)
    assert len(grid()) == 8000
    assert is_good().sum() == 837
    assert curve()[0] == pytest.approx([-1.0, -1.0, -0.2])
    assert curve()[-1] == pytest.approx([1.0, 1.0, 0.2])


def test_before_thousands_of_cells_are_flaws(rewards: list[np.ndarray]) -> None:
    assert ((rewards[0] > FLOOR) & ~is_good()).sum() >= 3000


def test_after_at_most_three_rounds_no_cell_is_a_flaw(
    outcome: dict[str, Any], rewards: list[np.ndarray]
) -> None:
    assert len(outcome["rounds"]) <= 3
    assert outcome["open_flaws"] == 0
    assert ((rewards[-1] > FLOOR) & ~is_good()).sum() == 0


def test_no_known_good_cell_loses_more_than_the_cap_over_all_releases(
    rewards: list[np.ndarray],
) -> None:
    summed = sum(np.maximum(earlier - later, 0.0) for earlier, later in itertools.pairwise(rewards))
    assert np.max(summed[is_good()]) <= CAP + 1e-9


def test_nothing_off_the_grid_is_endorsed_either(out: Path, outcome: dict[str, Any]) -> None:
    states = np.random.default_rng(5).uniform(-1, 1, (100_000, 3))
    forbidden = states[cKDTree(curve()).query(states)[0] > BOUNDARY]
    assert (iirl.load_release(out)(forbidden) == 0).all()


def test_the_kept_reward_near_the_experts_is_whole(out: Path, outcome: dict[str, Any]) -> None:
    states = np.random.default_rng(6).uniform(-1, 1, (100_000, 3))
    near = states[cKDTree(curve()).query(states)[0] <= 0.30]
    before = iirl.load_release(out / "releases" / "0000")(near)
    assert iirl.load_release(out)(near).mean() >= 0.98 * before.mean()


def test_every_reported_flaw_is_one(out: Path, outcome: dict[str, Any]) -> None:
    from iirl_engine.knowledge import Knowledge

    knowledge = Knowledge(out)
    flaws = knowledge.flaws(3)
    knowledge.close()
    assert len(flaws) == sum(r["confirmed"] for r in outcome["rounds"])
    assert len(set(flaws.ids)) == len(flaws)
    first = iirl.load_release(out / "releases" / "0000")
    distance = cKDTree(curve()).query(flaws.states)[0]
    assert (first(flaws.states) > FLOOR).all()
    assert (distance > BOUNDARY).all()
    assert np.allclose(flaws.violations, distance - BOUNDARY)


def fingerprint(out: Path) -> dict[str, str]:
    """Hash of every file of every release, and of the flaws."""
    from iirl_engine.knowledge import Knowledge

    found = {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((out / "releases").rglob("*.*"))
        if file.is_file()
    }
    knowledge = Knowledge(out)
    found["flaws"] = repr(knowledge.flaws(3).ids)
    knowledge.close()
    return found


def test_one_seed_gives_identical_bytes_and_findings_and_another_does_not(tmp_path: Path) -> None:
    """In a process that has done much else, and in one of its own."""
    for name, seed in (("here", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        run_chain(SMALL.format(seed=seed), tmp_path / name)
    again = [str(tmp_path / "here" / "chain.toml"), "--out", str(tmp_path / "again")]
    command = [sys.executable, "-m", "iirl_engine", "run", *again]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    first, other = (fingerprint(tmp_path / name / "run") for name in ("here", "other"))
    assert first == fingerprint(tmp_path / "again")
    assert len(first) >= 7
    tensors = [name for name in first if name.endswith("tensors.safetensors")]
    assert all(first[name] != other.get(name) for name in tensors)
    assert first["flaws"] != other["flaws"]
