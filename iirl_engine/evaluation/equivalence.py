"""How far two rewards are apart whatever their scale and shaping: the EPIC pseudometric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import UsageError
from iirl_engine.evaluation.agreement import pearson_distance

Array = NDArray[np.float64]
Reward = Callable[[Array, Array, Array], Array]


class Transitions(NamedTuple):
    """`states [n, d]`, `actions [n, k]` and `next_states [n, d]`."""

    states: Array
    actions: Array
    next_states: Array


def epic(
    reward_a: Reward,
    reward_b: Reward,
    transitions: Transitions,
    *,
    gamma: float,
    states: Any = None,
    actions: Any = None,
    samples: int = 256,
    seed: int = 0,
) -> float | None:
    """Return the EPIC distance of two rewards.

    Both are canonicalised over the same sample, so that potential shaping,
    R(s, a, s') + gamma Φ(s') - Φ(s), moves neither by more than rounding, and then compared by the
    Pearson distance over `transitions`, which knows no scale and no offset.

    Parameters
    ----------
    reward_a, reward_b
        Map `states [n, d]`, `actions [n, k]` and `next_states [n, d]` to rewards `[n]`.
    transitions
        The coverage distribution D; 3 arrays with as many rows.
    gamma
        Discount, 0 to 1.
    states, actions
        `[m, d]` and `[l, k]`, what D_S and D_A are drawn from; by default all states and all
        actions of the transitions.
    samples
        Draws of (A, S') that stand for the expectations; each costs 2 n rewards.
    seed
        Of these draws.

    Returns
    -------
    0 to 1, see `pearson_distance`; None when a canonicalised reward is the same everywhere.

    Raises
    ------
    UsageError
        When the arrays do not fit together, or `gamma` or `samples` is out of range.

    References
    ----------
    Gleave et al., "Quantifying Differences in Reward Functions", ICLR 2021 (arXiv 2006.13900),
    section 4.
    """
    rows = {len(part) for part in transitions}
    if len(rows) != 1 or transitions.states.shape != transitions.next_states.shape:
        shapes = [list(part.shape) for part in transitions]
        raise UsageError("transitions must be states, actions and next states", got=shapes)
    if not 0 <= gamma <= 1 or samples < 1:
        raise UsageError("gamma must be in [0, 1], samples at least 1", got=(gamma, samples))
    generator = np.random.default_rng(seed)
    if states is None:
        states = np.concatenate([transitions.states, transitions.next_states])
    if actions is None:
        actions = transitions.actions
    drawn = Transitions(
        states[generator.integers(len(states), size=samples)],
        actions[generator.integers(len(actions), size=samples)],
        states[generator.integers(len(states), size=samples)],
    )
    return pearson_distance(
        canonical(reward_a, transitions, drawn, gamma),
        canonical(reward_b, transitions, drawn, gamma),
    )


def canonical(reward: Reward, transitions: Transitions, drawn: Transitions, gamma: float) -> Array:
    """Return the canonically shaped reward `[n]` of transitions.

    C(R)(s, a, s') = R(s, a, s') + E[gamma R(s', A, S') - R(s, A, S') - gamma R(S, A, S')], the
    expectation over the rows of `drawn`.
    """
    at_next, at_state = np.zeros(len(transitions.states)), np.zeros(len(transitions.states))
    for action, next_state in zip(drawn.actions, drawn.next_states, strict=True):
        after = np.broadcast_to(next_state, transitions.next_states.shape)
        taken = np.broadcast_to(action, transitions.actions.shape)
        at_next += reward(transitions.next_states, taken, after)
        at_state += reward(transitions.states, taken, after)
    shift = (gamma * at_next - at_state) / len(drawn.actions)
    return np.asarray(reward(*transitions) + shift - gamma * reward(*drawn).mean())
