"""What linear policies do in an environment, or walking freely through a domain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import attrs
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from iirl_engine.errors import UsageError
from iirl_gym.observation import state_reader
from iirl_gym.random_search import Whitened

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Episode:
    """The states `[n, d]` that one episode leads to, n >= 1, and its true return, if any."""

    states: Array
    true_return: float | None


class World(Protocol):
    """Where policies can be tried."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a policy's weights: outputs, features + 1."""

    def play(self, policies: Array, horizon: int, seed: int) -> list[Episode]:
        """Return one episode per policy `[k, *shape]`, of `horizon` steps at most, begun alike."""


@attrs.frozen(eq=False)
class Gymnasium:
    """An environment of gymnasium whose actions are numbers or one of several choices.

    A policy's output W φ(s) goes from the middle of the action's range to its limits where it is
    between -1 and 1; the largest output chooses where there is a choice.
    """

    env: gymnasium.Env[Array, NDArray[np.float32] | np.int64]
    whitened: Whitened

    @property
    def shape(self) -> tuple[int, int]:
        space, width = self.env.action_space, len(self.whitened.mean)
        if isinstance(space, Box):
            return int(np.prod(space.shape)), width + 1
        if isinstance(space, Discrete):
            return int(space.n), width + 1
        raise UsageError("policies here act by numbers or by one choice", got=space)

    def play(self, policies: Array, horizon: int, seed: int) -> list[Episode]:
        return [self._episode(weights, horizon, seed) for weights in policies]

    def _episode(self, weights: Array, horizon: int, seed: int) -> Episode:
        width = len(self.whitened.mean)
        read = state_reader(self.env.observation_space, _Wide(width), None)
        observation, _ = self.env.reset(seed=seed)
        states, earned = [], 0.0
        for _ in range(horizon):
            action = self._action(weights @ self.whitened(read(observation)))
            observation, reward, terminated, truncated, _ = self.env.step(action)
            states.append(read(observation))
            earned += float(reward)
            if terminated or truncated:
                break
        return Episode(np.array(states, dtype=np.float64), earned)

    def _action(self, output: Array) -> NDArray[np.float32] | np.int64:
        space = self.env.action_space
        if isinstance(space, Discrete):
            return np.int64(space.start + output.argmax())
        assert isinstance(space, Box)
        low = np.where(np.isfinite(space.low), space.low, -1.0).reshape(-1)
        high = np.where(np.isfinite(space.high), space.high, 1.0).reshape(-1)
        action = (low + high) / 2 + (high - low) / 2 * output.clip(-1, 1)
        return action.reshape(space.shape).astype(space.dtype)


@attrs.frozen(eq=False)
class Walk:
    """A walk through the domain from demonstrations, by at most 5 % of its width at a step.

    What a learner could do that can change every feature at will; there is no true reward.
    """

    demonstrations: Array
    low: Array
    high: Array
    whitened: Whitened

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.low), len(self.low) + 1

    def play(self, policies: Array, horizon: int, seed: int) -> list[Episode]:
        generator = np.random.default_rng(seed)
        start = self.demonstrations[generator.integers(len(self.demonstrations))]
        states = np.broadcast_to(start.clip(self.low, self.high), (len(policies), len(start)))
        seen = []
        for _ in range(horizon):
            output = np.einsum("koj,kj->ko", policies, self.whitened(states))
            moved = states + 0.05 * (self.high - self.low) * output.clip(-1, 1)
            states = moved.clip(self.low, self.high)
            seen.append(states)
        return [Episode(episode, None) for episode in np.stack(seen, axis=1)]


@contextlib.contextmanager
def world(
    environment: str | None, demonstrations: Array, low: Array, high: Array
) -> Iterator[World]:
    """Make a world and close it again.

    Parameters
    ----------
    environment
        Id of an environment of gymnasium; None for a walk through the domain.
    demonstrations
        `[n, d]`.
    low, high
        `[d]` corners of the domain.

    Raises
    ------
    UsageError
        When there is no such environment, or its observations are no such states.
    """
    whitened = Whitened.of(demonstrations)
    if environment is None:
        yield Walk(demonstrations, low, high, whitened)
        return
    try:
        env = gymnasium.make(environment)
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(
            "the environment cannot be made",
            got=f"{environment}: {error}",
            next_step="name one of gymnasium.envs.registry, and install what it needs",
        ) from error
    try:
        state_reader(env.observation_space, _Wide(len(low)), None)
        yield Gymnasium(env, whitened)
    finally:
        env.close()


@attrs.frozen
class _Wide:
    """As many features as the reward has."""

    width: int
