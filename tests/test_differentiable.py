"""A released reward is differentiable end to end, in either precision, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_engine.testing import run_chain

CHAIN = """
report = []
[flywheel]
rounds = 1
[source]
use = "npz"
path = "demos.npz"
[encoder]
use = "{encoder}"
{steps}
[mapping]
use = "exp"
l_min = 0.0
l_max = 1.0
[schedule]
use = "exponential"
half_life = 10.0
[[norm]]
use = "support"
boundary = 1.0
[[audit]]
use = "sobol"
budget = 2000
[[refine]]
use = "envelope"
[[gate]]
use = "known-good"
max_loss = 1.0
"""
STEPS = {"moe-autoencoder": 300, "energy": 100, "rnd": 100, "flow": 100}
ENCODERS = ["kernel-mean", "mmd-witness", "knn", *STEPS]


@pytest.fixture(params=ENCODERS)
def reward(request: pytest.FixtureRequest, tmp_path: Path) -> iirl.RewardModel:
    rng = np.random.default_rng(0)
    states, negatives = rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + 2
    np.savez(tmp_path / "demos.npz", states=states, negatives=negatives)
    steps = f"steps = {STEPS[request.param]}" if request.param in STEPS else ""
    outcome = run_chain(CHAIN.format(encoder=request.param, steps=steps), tmp_path)
    return iirl.load_release(outcome.release)


def test_gradients_are_those_of_the_reward(reward: iirl.RewardModel) -> None:
    # A little off the expert states: at one of them the distance to support has a corner.
    states = torch.tensor(reward.demonstrations.states[:8] + 0.05).requires_grad_(True)
    assert torch.autograd.gradcheck(reward.reward, states, eps=1e-7, atol=1e-5, rtol=1e-4)
    times = torch.arange(8)
    assert torch.autograd.gradcheck(
        lambda s: reward(s, t=times), states, eps=1e-7, atol=1e-5, rtol=1e-4
    )


def test_float32_in_is_float32_out_and_the_same_reward(reward: iirl.RewardModel) -> None:
    states = reward.demonstrations.states.astype(np.float32)
    narrow, wide = reward(states), reward(states.astype(np.float64))
    assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
    assert np.allclose(narrow, wide, atol=1e-6)
    assert reward(torch.tensor(states)).dtype == torch.float32


def test_a_row_has_its_reward_whatever_it_is_asked_with(reward: iirl.RewardModel) -> None:
    states = np.random.default_rng(1).normal(size=(100, 3))
    alone = np.concatenate([reward(row[None]) for row in states])
    assert np.allclose(alone, reward(states), rtol=1e-12, atol=1e-14)


def test_an_auditor_is_given_the_gradient_that_autograd_finds(reward: iirl.RewardModel) -> None:
    generator = torch.Generator().manual_seed(0)
    near = torch.tensor(reward.demonstrations.states) + 0.05
    far = 1e3 * torch.randn(20, 3, dtype=torch.float64, generator=generator)
    farther = torch.tensor([[1e9, 0.0, 0.0]], dtype=torch.float64)
    for model in (reward, reward.evolve(corrections=())):
        for states in (near, far, farther, near[:1]):
            asked = states.clone().requires_grad_(True)
            value = model.reward(asked)
            (gradient,) = torch.autograd.grad(value.sum(), asked)
            found = model.reward_and_gradient(states)
            assert not found[0].requires_grad
            assert torch.allclose(found[0], value.detach(), rtol=1e-10, atol=1e-12)
            assert torch.allclose(found[1], gradient, rtol=1e-9, atol=1e-12)


def test_where_there_is_no_reward_there_is_no_gradient(reward: iirl.RewardModel) -> None:
    states = torch.tensor(reward.demonstrations.states[:4] + 0.05)
    states[1, 0], states[2, 1] = torch.nan, torch.inf
    for model in (reward, reward.evolve(corrections=())):
        value, gradient = model.reward_and_gradient(states)
        alone = model.reward_and_gradient(states[[0, 3]])[1]
        assert (value[1:3] == 0).all()
        assert (gradient[1:3] == 0).all()
        assert torch.allclose(gradient[[0, 3]], alone, rtol=1e-9, atol=1e-12)
