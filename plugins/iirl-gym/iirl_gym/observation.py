"""Which part of an observation is the state that a reward looks at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box
from numpy.typing import NDArray

from iirl_engine.errors import UsageError

Observe = Callable[[Any], Any]


def state_reader(
    space: Space[Any], reward: object, observe: Observe | None
) -> Callable[[Any], NDArray[Any]]:
    """Return a function from one observation to its state `[d]`.

    Parameters
    ----------
    space
        What observations there are.
    reward
        The reward that the state is for; one with a `width` says how many features it has.
    observe
        Picks the state out of an observation; its answer is flattened. None when the whole
        observation, flattened, is the state.

    Raises
    ------
    UsageError
        When `observe` is None and the observation is no array, or has another number of features
        than the reward.
    """
    if observe is not None:
        return lambda observation: np.ravel(observe(observation))
    if not isinstance(space, Box):
        raise UsageError(
            "the observation is no array, so it is not clear what its state is",
            got=space,
            next_step="pick the state: observe=lambda observation: observation['observation']",
        )
    features, width = math.prod(space.shape), getattr(reward, "width", None)
    if width not in (None, features):
        raise UsageError(
            "the observation has other features than the reward",
            got=f"{features} features, the reward has {width}",
            next_step=f"pick the state: observe=lambda observation: observation[:{width}]",
        )
    return np.ravel
