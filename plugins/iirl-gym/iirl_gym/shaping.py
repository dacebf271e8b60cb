"""Rewards that guide a learner without changing what is optimal, while they themselves change."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from iirl_engine.errors import UsageError
from iirl_gym.observation import Observe, state_reader
from iirl_gym.score import Array, Reward, score

Obs = TypeVar("Obs")
Act = TypeVar("Act")


class Shaping:
    """Dynamic potential-based shaping: F_t(s, s') = gamma Φ_{t+1}(s') - Φ_t(s).

    The potential Φ_t(s) is the learned reward R(s, t) of the release in use when the learner comes
    to s. Added to the environment's reward, F changes the return from a state by -Φ_t(s) whatever
    the policy does, as long as the same number that was added for arriving in s is subtracted for
    leaving it, and a terminal state has potential 0. So optimal policies stay optimal, also when
    `update` puts another release in its place during an episode. `ShapingWrapper` keeps that
    number; whoever evaluates Φ of s anew after an update loses the guarantee.

    Parameters
    ----------
    gamma
        The learner's discount factor, in [0, 1].
    reward
        What `iirl_engine.load_release` returns, or a function with its signature. None, before
        there is one, stands for potential 0.

    Raises
    ------
    UsageError
        When `gamma` is out of range.

    References
    ----------
    Devlin & Kudenko. *Dynamic Potential-Based Reward Shaping.* AAMAS 2012. Ng, Harada & Russell.
    *Policy Invariance under Reward Transformations.* ICML 1999. Grześ. *Reward Shaping in Episodic
    Reinforcement Learning.* AAMAS 2017, on terminal states.

    Examples
    --------
        shaping = Shaping(gamma=0.99, reward=iirl_engine.load_release("runs/x/releases/0000"))
        env = ShapingWrapper(gymnasium.make("HalfCheetah-v5"), shaping)
        ...
        shaping.update(iirl_engine.load_release("runs/x/releases/0001"))
    """

    def __init__(self, gamma: float, reward: Reward | None = None) -> None:
        if not 0.0 <= gamma <= 1.0:
            raise UsageError("gamma must lie in [0, 1]", got=gamma)
        self.gamma = gamma
        self.reward = reward

    def update(self, reward: Reward) -> None:
        """Put another release in place, for all states that are reached from now on."""
        self.reward = reward

    def potential(self, states: NDArray[Any], t: Any = None) -> Array:
        """Return Φ_t `[n]` of states `[n, d]` at times t, `[n]` or one for all."""
        if self.reward is None:
            return np.zeros(len(states))
        return score(self.reward, states, t)

    def term(self, before: Any, after: Any, terminated: Any) -> Array:
        """Return F `[n]` of transitions.

        Parameters
        ----------
        before
            `[n]` Φ_t(s), as it was when s was reached.
        after
            `[n]` Φ_{t+1}(s').
        terminated
            `[n]` whether s' is a terminal state, which has potential 0. An episode that a time
            limit cuts short has no terminal state.
        """
        arrived: Array = np.where(terminated, 0.0, after)
        return self.gamma * arrived - np.asarray(before, dtype=np.float64)


class ShapingWrapper(gymnasium.Wrapper[Obs, Act, Obs, Act], RecordConstructorArgs):
    """Adds F_t(s, s') to the environment's reward.

    F is kept in `info["shaping"]` and the environment's own reward in `info["original_reward"]`.
    Several environments may share one `Shaping`.

    Parameters
    ----------
    env
        Any environment.
    shaping
        The potential and the discount factor.
    observe
        Picks the state `[d]` out of an observation, when that is not the whole of it.

    Raises
    ------
    UsageError
        When the observation cannot be the potential's state and `observe` is None.
    """

    def __init__(
        self, env: gymnasium.Env[Obs, Act], shaping: Shaping, *, observe: Observe | None = None
    ) -> None:
        RecordConstructorArgs.__init__(
            self, shaping=shaping, observe=observe, _disable_deepcopy=True
        )
        gymnasium.Wrapper.__init__(self, env)
        self._state = state_reader(env.observation_space, shaping.reward, observe)
        self._shaping = shaping
        self._t = 0
        self._potential = np.zeros(1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode, and keep the potential of its first state."""
        observation, info = super().reset(seed=seed, options=options)
        self._t = 0
        self._potential = self._shaping.potential(self._state(observation)[None], 0)
        return observation, info

    def step(self, action: Act) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Step, and add F to the reward."""
        observation, original, terminated, truncated, info = super().step(action)
        self._t += 1
        after = self._shaping.potential(self._state(observation)[None], self._t)
        added = float(self._shaping.term(self._potential, after, terminated)[0])
        self._potential = after
        info = {"original_reward": float(original)} | info | {"shaping": added}
        return observation, float(original) + added, terminated, truncated, info
