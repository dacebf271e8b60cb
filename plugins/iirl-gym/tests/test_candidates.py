"""Best of n: the best that is endorsed in every state, or none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import iirl_engine as iirl
from iirl_engine.errors import DataError, UsageError
from iirl_gym import best_of, endorsed


def first_feature(states: np.ndarray, t: Any = None) -> np.ndarray:
    """A reward that is what the state says, so that the answers below can be read off."""
    assert t is None
    return states[:, 0]


def trajectories(*rewards: list[float]) -> np.ndarray:
    return np.array(rewards)[:, :, None]


def test_the_highest_mean_wins() -> None:
    assert best_of(first_feature, trajectories([0.2, 0.4], [0.9, 0.5], [0.6, 0.6])) == 1


def test_one_bad_state_rejects_a_candidate_however_good_the_rest() -> None:
    candidates = trajectories([1.0, 0.01, 1.0], [0.1, 0.1, 0.1])
    assert endorsed(first_feature, candidates).tolist() == [False, True]
    assert best_of(first_feature, candidates) == 1
    assert best_of(first_feature, candidates, floor=0.0) == 0


def test_without_an_endorsed_candidate_there_is_no_answer() -> None:
    assert best_of(first_feature, trajectories([0.5, 0.0], [0.01, 0.9])) is None
    assert best_of(first_feature, trajectories([0.5, 0.3]), floor=0.5) is None


def test_single_states_are_trajectories_of_one() -> None:
    states = np.array([[0.3, 9.0], [0.8, 9.0], [0.0, 9.0]])
    assert best_of(first_feature, states) == 1
    assert best_of(first_feature, states[:, None]) == 1


def test_between_equals_the_first_wins() -> None:
    assert best_of(first_feature, trajectories([0.2, 0.4], [0.4, 0.2])) == 0


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 3), (2, 0, 3)])
def test_nothing_is_never_endorsed(reward: iirl.RewardModel, shape: tuple[int, ...]) -> None:
    assert best_of(reward, np.zeros(shape)) is None
    assert not endorsed(reward, np.zeros(shape)).any()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_nan_fails_closed(reward: iirl.RewardModel, broken: float) -> None:
    good = reward.demonstrations.states[:6].reshape(3, 2, 3)
    assert endorsed(reward, good).all()
    bad = good.copy()
    bad[1, 1, 2] = broken
    assert endorsed(reward, bad, floor=0.0).tolist() == [True, False, True]
    # A reward that breaks is no endorsement either.
    assert best_of(lambda states, t=None: np.full(len(states), broken), good) is None


def test_a_learned_reward_prefers_demonstrations(reward: iirl.RewardModel) -> None:
    known = reward.demonstrations.states[10:20]
    candidates = np.stack([known + 0.3, known, known + 40])
    assert best_of(reward, candidates) == 1
    assert best_of(reward, torch.tensor(candidates)) == 1
    assert best_of(reward, candidates[2:]) is None


SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)


@given(arrays(float, SHAPES, elements=st.floats(-1, 2)), st.floats(0, 0.9))
def test_the_answer_is_endorsed_and_none_that_is_endorsed_is_better(
    rewards: np.ndarray, floor: float
) -> None:
    chosen = best_of(first_feature, rewards[:, :, None], floor=floor)
    passing = [i for i, row in enumerate(rewards) if all(value > floor for value in row)]
    if chosen is None:
        assert passing == []
    else:
        assert chosen in passing
        assert rewards[chosen].mean() == max(rewards[i].mean() for i in passing)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2, 3)])
def test_other_axes_are_refused(reward: iirl.RewardModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="must have the axes"):
        best_of(reward, np.zeros(shape))


@pytest.mark.parametrize("floor", [-0.1, 1.0, float("nan")])
def test_the_floor_is_a_reward(reward: iirl.RewardModel, floor: float) -> None:
    with pytest.raises(UsageError, match="floor must lie in"):
        best_of(reward, np.zeros((1, 3)), floor=floor)


def test_states_of_another_width_are_refused(reward: iirl.RewardModel) -> None:
    with pytest.raises(DataError):
        best_of(reward, np.zeros((2, 5)))
