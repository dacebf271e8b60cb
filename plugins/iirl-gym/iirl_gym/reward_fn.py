"""A learned reward with the signature that `imitation` and its like call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iirl_gym.score import Reward, score

RewardFn = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.float32]]


def as_reward_fn(reward: Reward) -> RewardFn:
    """Return a function of (state, action, next_state, done) that answers R(next_state).

    It has the signature of imitation's `RewardFn`, which its `RewardVecEnvWrapper` takes. The
    signature knows no time, so this is the reward at full strength. Action and `done` make no
    difference: a learned reward is one of states, and a last state is a state.

    Parameters
    ----------
    reward
        What `iirl_engine.load_release` returns, or a function with its signature.

    Returns
    -------
    A function of `state [n, ...]`, `action [n, ...]`, `next_state [n, ...]` and `done [n]` that
    returns float32 `[n]`; states with more than two axes are flattened to `[n, d]`.
    """

    def reward_fn(
        state: NDArray[Any], action: NDArray[Any], next_state: NDArray[Any], done: NDArray[Any]
    ) -> NDArray[np.float32]:
        successors = np.asarray(next_state)
        return score(reward, successors.reshape(len(successors), -1)).astype(np.float32)

    return reward_fn
