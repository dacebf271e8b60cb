"""An environment that pays a learned reward: R(s', t) of the state that an action leads to."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from iirl_gym.observation import Observe, state_reader
from iirl_gym.score import Reward, score

Obs = TypeVar("Obs")
Act = TypeVar("Act")


class RewardWrapper(gymnasium.Wrapper[Obs, Act, Obs, Act], RecordConstructorArgs):
    """Pays R(s', t) = β(s', t) R(s') of the successor state instead of the environment's reward.

    t counts the steps since the reset, so the state that the first action leads to has t = 1. The
    environment's own reward is kept in `info["original_reward"]`. A state that holds NaN or Inf
    earns 0.

    Parameters
    ----------
    env
        Any environment.
    reward
        What `iirl_engine.load_release` returns, or a function with its signature.
    observe
        Picks the state `[d]` out of an observation, when that is not the whole of it.

    Raises
    ------
    UsageError
        When the observation cannot be the reward's state and `observe` is None.

    Examples
    --------
        env = RewardWrapper(gymnasium.make("HalfCheetah-v5"), iirl_engine.load_release("runs/x"))
    """

    def __init__(
        self, env: gymnasium.Env[Obs, Act], reward: Reward, *, observe: Observe | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, reward=reward, observe=observe, _disable_deepcopy=True)
        gymnasium.Wrapper.__init__(self, env)
        self._state = state_reader(env.observation_space, reward, observe)
        self._reward = reward
        self._t = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode at t = 0."""
        self._t = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Act) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Step, and pay what the learned reward says of the new state."""
        observation, original, terminated, truncated, info = super().step(action)
        self._t += 1
        reward = score(self._reward, self._state(observation)[None], self._t)
        info = {"original_reward": float(original)} | info
        return observation, float(reward[0]), terminated, truncated, info
