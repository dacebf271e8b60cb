"""What a reward says of states: one finite number each."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import UsageError

Array = NDArray[np.float64]


class Reward(Protocol):
    """A reward over states, such as the `RewardModel` that `iirl_engine.load_release` returns."""

    def __call__(self, states: NDArray[Any], t: Any = None) -> Any:
        """Return the reward `[n]` of states `[n, d]` at times t, `[n]` or one for all."""


def score(reward: Reward, states: NDArray[Any], t: Any = None) -> Array:
    """Return the reward float64 `[n]` of states `[n, d]`; what is NaN or Inf counts as 0.

    Parameters
    ----------
    reward
        A `RewardModel`, or a function with its signature.
    states
        `[n, d]`.
    t
        Steps since the episode began, `[n]` or one for all; None for the reward at full strength.

    Raises
    ------
    DataError
        When a `RewardModel` cannot score these states.
    UsageError
        When the answer is not one number per state.
    """
    answer = np.asarray(reward(states, t=t), dtype=np.float64)
    if answer.shape != states.shape[:1]:
        raise UsageError(
            "a reward must answer with one number per state",
            got=f"shape {list(answer.shape)} for states {list(states.shape)}",
        )
    return np.where(np.isfinite(answer), answer, 0.0)
