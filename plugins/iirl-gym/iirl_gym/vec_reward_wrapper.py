"""The same for many environments at once: a learned reward for a `VecEnv` of stable-baselines3."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from iirl_gym.observation import Observe, state_reader
from iirl_gym.score import Reward, score


class VecRewardWrapper(VecEnvWrapper):
    """Pays R(s', t) of the successor states of all environments, scored in one call.

    A `VecEnv` resets an environment in the very step that ends its episode, and returns the first
    observation of the next one. What is scored then is the last observation of the old episode,
    `info["terminal_observation"]`. t counts the steps since the reset of each environment. The
    environment's own reward is kept in `info["original_reward"]`.

    Wrap it around the plain environments and inside of `VecNormalize`, which changes
    observations. A `Monitor` inside goes on to log the true return.

    Parameters
    ----------
    venv
        Vectorised environments of stable-baselines3.
    reward
        What `iirl_engine.load_release` returns, or a function with its signature.
    observe
        Picks the state `[d]` out of the observation of one environment, when that is not the
        whole of it.

    Raises
    ------
    UsageError
        When the observation cannot be the reward's state and `observe` is None.
    """

    def __init__(self, venv: VecEnv, reward: Reward, *, observe: Observe | None = None) -> None:
        super().__init__(venv)
        self._state = state_reader(venv.observation_space, reward, observe)
        self._reward = reward
        self._t = np.zeros(venv.num_envs, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        """Begin all episodes at t = 0."""
        self._t[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and pay what the learned reward says of the new states."""
        observations, originals, dones, infos = self.venv.step_wait()
        self._t += 1
        successors = [
            info["terminal_observation"] if done else _one(observations, index)
            for index, (done, info) in enumerate(zip(dones, infos, strict=True))
        ]
        states = np.stack([self._state(successor) for successor in successors])
        rewards = score(self._reward, states, self._t).astype(np.float32)
        self._t[dones] = 0
        kept = [
            {"original_reward": float(original)} | info
            for original, info in zip(originals, infos, strict=True)
        ]
        return observations, rewards, dones, kept


def _one(observations: Any, index: int) -> Any:
    """Return the observation of one environment; a `Dict` or `Tuple` space has an array each."""
    if isinstance(observations, dict):
        return {name: array[index] for name, array in observations.items()}
    if isinstance(observations, tuple):
        return tuple(array[index] for array in observations)
    return observations[index]
