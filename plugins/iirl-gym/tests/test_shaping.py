"""Dynamic shaping on small exact MDPs: what is best stays best while the potential changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from iirl_engine.errors import UsageError
from iirl_gym import RewardWrapper, Shaping, ShapingWrapper

STATES, ACTIONS, HORIZON = 4, 2, 6
END = STATES - 1
POLICIES = np.array(list(itertools.product(range(ACTIONS), repeat=STATES)))


class Table:
    """A reward that gives each state `[1]`, its number, a value."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __call__(self, states: np.ndarray, t: Any = None) -> np.ndarray:
        return self.values[states[:, 0].astype(int)]


ALL = np.arange(STATES, dtype=float)[:, None]


@attrs.frozen(eq=False)
class Mdp:
    """Transitions `[s, a, s']` and rewards `[s, a]`; the last state ends an episode."""

    transitions: np.ndarray
    rewards: np.ndarray

    @classmethod
    def random(cls, generator: np.random.Generator, *, certain: bool = False) -> Mdp:
        shape = (STATES, ACTIONS, STATES)
        transitions = generator.dirichlet(np.full(STATES, 0.5), size=shape[:2])
        if certain:
            transitions = np.eye(STATES)[generator.integers(STATES, size=shape[:2])]
        return cls(transitions, generator.normal(size=shape[:2]))

    def quality(self, step: int, value: np.ndarray, gamma: float, added: Any) -> np.ndarray:
        """Return Q `[s, a]` at a step, from the value `[s']` of the next one."""
        following = self.rewards[:, :, None] + added(step) + gamma * value
        return (self.transitions * following).sum(axis=2)

    def value(self, policy: np.ndarray, gamma: float, added: Any) -> np.ndarray:
        """Return the value `[s]` at step 0 of a policy `[s]`, exact."""
        value = np.zeros(STATES)
        for step in reversed(range(HORIZON)):
            value = self.quality(step, value, gamma, added)[np.arange(STATES), policy]
            value[END] = 0.0
        return value

    def best(self, gamma: float, added: Any) -> list[np.ndarray]:
        """Return Q `[s, a]` of every step under a policy that is optimal from there on."""
        found, value = [], np.zeros(STATES)
        for step in reversed(range(HORIZON)):
            found.append(self.quality(step, value, gamma, added))
            value = found[-1].max(axis=1)
            value[END] = 0.0
        return found[::-1]


def nothing(step: int) -> float:
    return 0.0


def kept(gamma: float, tables: np.ndarray) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """Return Φ_0 `[s]`, and F `[s, 1, s']` by step: a new release before every step.

    The last step ends all episodes, whatever state they are in.
    """
    shaping = Shaping(gamma)
    potentials = []
    for table in tables:
        shaping.update(Table(table))
        potentials.append(shaping.potential(ALL))

    def added(step: int) -> np.ndarray:
        ends = (np.arange(STATES) == END) | (step == HORIZON - 1)
        before, after = potentials[step][:, None], potentials[step + 1][None]
        return shaping.term(before, after, ends)[:, None, :]

    return potentials[0], added


def forgetful(gamma: float, tables: np.ndarray) -> Callable[[int], np.ndarray]:
    """The same with the static form: both ends of a step from the release of the moment."""
    shaping = Shaping(gamma)

    def added(step: int) -> np.ndarray:
        shaping.update(Table(tables[step + 1]))
        potential = shaping.potential(ALL)
        ends = (np.arange(STATES) == END) | (step == HORIZON - 1)
        return shaping.term(potential[:, None], potential[None], ends)[:, None, :]

    return added


def drawn(seed: int) -> tuple[Mdp, np.ndarray]:
    generator = np.random.default_rng(seed)
    mdp = Mdp.random(generator)
    return mdp, generator.uniform(0, 10, size=(HORIZON + 1, STATES))


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.9, 1.0]))
def test_every_policy_loses_the_first_potential_and_nothing_else(seed: int, gamma: float) -> None:
    mdp, tables = drawn(seed)
    first, added = kept(gamma, tables)
    for policy in POLICIES:
        shaped, plain = mdp.value(policy, gamma, added), mdp.value(policy, gamma, nothing)
        assert shaped[:END] == pytest.approx((plain - first)[:END], abs=1e-11)


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.9, 1.0]))
def test_what_is_optimal_stays_optimal_at_every_step(seed: int, gamma: float) -> None:
    """By value iteration: shaped and plain Q differ by a number that no action changes."""
    mdp, tables = drawn(seed)
    _, added = kept(gamma, tables)
    pairs = zip(mdp.best(gamma, added), mdp.best(gamma, nothing), strict=True)
    for shaped, plain in pairs:
        apart = (shaped - plain)[:END]
        assert apart[:, 0] == pytest.approx(apart[:, 1], abs=1e-11)


def test_the_static_form_would_change_which_policy_is_best() -> None:
    """What the tests above would find if a release were asked anew about the state left."""
    gamma, changed = 0.9, 0
    for seed in range(50):
        mdp, tables = drawn(seed)
        plain = [mdp.value(p, gamma, nothing)[0] for p in POLICIES]
        shaped = [mdp.value(p, gamma, forgetful(gamma, tables))[0] for p in POLICIES]
        changed += np.argmax(plain) != np.argmax(shaped)
    assert changed >= 10


class Walk(gymnasium.Env[np.ndarray, int]):
    """An MDP with certain transitions, as an environment; it ends in the last state."""

    observation_space = Box(0, STATES, (1,), np.float64)
    action_space = Discrete(ACTIONS)

    def __init__(self, mdp: Mdp) -> None:
        self.mdp = mdp
        self.state = 0
        self.steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.steps = 0
        return np.array([0.0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = self.mdp.rewards[self.state, action]
        self.state = int(self.mdp.transitions[self.state, action].argmax())
        self.steps += 1
        ended = self.state == END or self.steps == HORIZON
        return np.array([float(self.state)]), float(reward), ended, False, {}


@pytest.mark.parametrize("seed", range(20))
def test_returns_through_the_wrapper_while_releases_change_in_mid_episode(seed: int) -> None:
    generator, gamma = np.random.default_rng(seed), 0.9
    tables = generator.uniform(0, 1, size=(HORIZON + 1, STATES))
    shaping = Shaping(gamma)
    env = ShapingWrapper(Walk(Mdp.random(generator, certain=True)), shaping)
    lost = []
    for policy in POLICIES:
        shaping.update(Table(tables[0]))
        observation, _ = env.reset()
        shaped = plain = 0.0
        ended, step = False, 0
        while not ended:
            shaping.update(Table(tables[step + 1]))
            observation, reward, ended, _, info = env.step(int(policy[int(observation[0])]))
            assert reward == pytest.approx(info["original_reward"] + info["shaping"])
            shaped += gamma**step * reward
            plain += gamma**step * info["original_reward"]
            step += 1
        lost.append(plain - shaped)
    assert lost == pytest.approx([tables[0, 0]] * len(POLICIES), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_q_learning_finds_an_optimal_policy_while_releases_change(seed: int) -> None:
    """Time is part of the learner's state, as the horizon and the potential demand."""
    generator, gamma = np.random.default_rng(seed), 0.9
    mdp = Mdp.random(generator, certain=True)
    shaping = Shaping(gamma)
    env = ShapingWrapper(Walk(mdp), shaping)
    learned = np.zeros((HORIZON + 1, STATES, ACTIONS))
    for episode in range(1500):
        if episode < 500:
            shaping.update(Table(generator.uniform(0, 1, size=STATES)))
        observation, _ = env.reset()
        ended, step = False, 0
        while not ended:
            state, action = int(observation[0]), int(generator.integers(ACTIONS))
            observation, reward, ended, _, _ = env.step(action)
            ahead = 0.0 if ended else learned[step + 1, int(observation[0])].max()
            learned[step, state, action] += 0.5 * (
                reward + gamma * ahead - learned[step, state, action]
            )
            step += 1
    best = mdp.best(gamma, nothing)
    state, step = 0, 0
    while state != END and step < HORIZON:
        action = int(learned[step, state].argmax())
        assert best[step][state, action] == pytest.approx(best[step][state].max(), abs=1e-6)
        state, step = int(mdp.transitions[state, action].argmax()), step + 1


def test_without_a_release_the_potential_is_zero() -> None:
    env = ShapingWrapper(Walk(Mdp.random(np.random.default_rng(0))), Shaping(0.9))
    env.reset()
    _, reward, _, _, info = env.step(0)
    assert info["shaping"] == 0
    assert reward == info["original_reward"]


def test_a_time_limit_leaves_the_last_state_its_potential() -> None:
    walk = Walk(Mdp(np.eye(STATES)[np.ones((STATES, ACTIONS), dtype=int)], np.zeros((STATES, 2))))
    limited = gymnasium.wrappers.TimeLimit(walk, 2)
    env = ShapingWrapper(limited, Shaping(0.5, Table(np.array([0.25, 1.0, 0.0, 0.0]))))
    env.reset()
    *_, first = env.step(0)
    _, _, terminated, truncated, second = env.step(0)
    assert (terminated, truncated) == (False, True)
    assert (first["shaping"], second["shaping"]) == (0.5 * 1.0 - 0.25, 0.5 * 1.0 - 1.0)


def test_the_environment_s_own_reward_survives_two_wrappers() -> None:
    mdp = Mdp.random(np.random.default_rng(3))
    learned = RewardWrapper(Walk(mdp), Table(np.full(STATES, 0.5)))
    env = ShapingWrapper(learned, Shaping(1.0, Table(np.zeros(STATES))))
    env.reset()
    _, reward, _, _, info = env.step(1)
    assert reward == 0.5
    assert info["original_reward"] == mdp.rewards[0, 1]


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_gamma_is_a_discount_factor(gamma: float) -> None:
    with pytest.raises(UsageError, match="gamma must lie in"):
        Shaping(gamma)
