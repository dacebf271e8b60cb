"""Which regions to certify where the whole domain is too much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iirl_certify.boxes import Array, Region
from iirl_engine import RewardModel


def around_demonstrations(model: RewardModel, count: int, radius: float) -> list[Region]:
    """Return boxes of half-width `radius` around demonstrations, cut to the domain.

    Parameters
    ----------
    model
        The reward.
    count
        How many demonstrations, evenly spread over their order; all, when there are fewer.
    radius
        In units of the features.
    """
    low, high = np.array(model.domain.low), np.array(model.domain.high)
    states = _chosen(model.demonstrations.states, count)
    return [
        Region(np.clip(state - radius, low, high), np.clip(state + radius, low, high))
        for state in states
    ]


def slices(model: RewardModel, count: int, radius: float, axes: Array) -> list[Region]:
    """Return slices {s + u axes}, |u_i| <= radius, through demonstrations s.

    Parameters
    ----------
    model, count, radius
        As of `around_demonstrations`; slices are not cut to the domain.
    axes
        `[q, d]`, or `[count, q, d]` with axes for each.
    """
    states = _chosen(model.demonstrations.states, count)
    each = np.broadcast_to(axes, (len(states), *axes.shape[-2:]))
    reach = np.full(axes.shape[-2], radius)
    return [
        Region(-reach, reach, origin=state, axes=own)
        for state, own in zip(states, each, strict=True)
    ]


def _chosen(states: Array, count: int) -> Array:
    rows: NDArray[np.int64] = np.linspace(0, len(states) - 1, min(count, len(states))).astype(int)
    chosen: Array = states[rows]
    return chosen
