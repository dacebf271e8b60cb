"""Which of several proposals a reward endorses, and which of those is best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import UsageError
from iirl_gym.score import Array, Reward, score


def endorsed(reward: Reward, candidates: Any, *, floor: float = 0.01) -> NDArray[np.bool_]:
    """Say which candidates the reward endorses in every state.

    Parameters
    ----------
    reward
        What `iirl_engine.load_release` returns, or a function with its signature; it is asked at
        full strength.
    candidates
        `[n, horizon, d]` trajectories, or `[n, d]` single states, from any proposer.
    floor
        Reward above this is an endorsement; in [0, 1).

    Returns
    -------
    `[n]`: True where the reward of every state is above the floor. A candidate with NaN or Inf in
    a state, or without a state, is not endorsed.

    Raises
    ------
    UsageError
        When the floor is out of range or the candidates have another number of axes.
    DataError
        When a `RewardModel` cannot score these states.
    """
    return _least(_rewards(reward, candidates, floor)) > floor


def best_of(reward: Reward, candidates: Any, *, floor: float = 0.01) -> int | None:
    """Return the number of the endorsed candidate with the highest mean reward, or None.

    Best-of-n sampling with a filter: a candidate with any state at or under the floor is rejected,
    however well the rest of it scores, and without an endorsed candidate there is no answer.
    Between equals the first wins.

    Parameters
    ----------
    reward, candidates, floor
        As for `endorsed`.

    Returns
    -------
    Row number in `candidates`; None when none is endorsed, or there is none.

    Raises
    ------
    UsageError, DataError
        As for `endorsed`.
    """
    rewards = _rewards(reward, candidates, floor)
    (rows,) = np.nonzero(_least(rewards) > floor)
    if len(rows) == 0:
        return None
    return int(rows[rewards[rows].mean(axis=1).argmax()])


def _rewards(reward: Reward, candidates: Any, floor: float) -> Array:
    """Return the reward `[n, horizon]` of every state; a single state has horizon 1."""
    if not 0.0 <= floor < 1.0:
        raise UsageError("the floor must lie in [0, 1)", got=floor)
    states = np.asarray(candidates)
    if states.ndim not in (2, 3):
        raise UsageError(
            "candidates must have the axes [n, horizon, d] or [n, d]",
            got=f"shape {list(states.shape)}",
        )
    shape = states.shape[:2] if states.ndim == 3 else (len(states), 1)
    if states.size == 0:
        return np.zeros(shape)
    return score(reward, states.reshape(-1, states.shape[-1])).reshape(shape)


def _least(rewards: Array) -> Array:
    """Return the least reward `[n]` of each candidate; 0 where it has no state."""
    return rewards.min(axis=1) if rewards.shape[1] else np.zeros(len(rewards))
