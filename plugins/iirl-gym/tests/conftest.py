"""A real reward: learned by a short chain from states of Pendulum-v1, weaker with time."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import iirl_engine as iirl
from iirl_engine.testing import run_chain

CHAIN = """
[flywheel]
rounds = 3

[source]
use = "npz"
path = "demos.npz"

[encoder]
use = "knn"

[mapping]
use = "exp"

[schedule]
use = "exponential"
half_life = 2.0

[[norm]]
use = "support"

[[audit]]
use = "sobol"
budget = 64

[[refine]]
use = "envelope"

[[report]]
use = "text"
"""


@pytest.fixture(scope="session")
def reward_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the chain."""
    folder = tmp_path_factory.mktemp("pendulum")
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    states = [env.reset(seed=0)[0]]
    states += [env.step(env.action_space.sample())[0] for _ in range(199)]
    np.savez(folder / "demos.npz", states=np.array(states))
    return run_chain(CHAIN, folder).run


@pytest.fixture(scope="session")
def reward(reward_run: Path) -> iirl.RewardModel:
    """Full strength at t = 0, half of it at t = 2, and so on; three features."""
    return iirl.load_release(reward_run / "releases" / "0000")
