"""Where a learner finds nothing to climb: how flat a reward is on the way to the expert."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

PAIRS, POINTS = 64, 16
# Reward per standard deviation of the demonstrations, below which a place counts as flat.
FLAT = 1e-3


def saturation(
    model: RewardModel, starts: Array, *, generator: np.random.Generator
) -> float | None:
    """Return the share of places on the way from start to demonstration where the reward is flat.

    64 start states and as many demonstrations are drawn, and 16 evenly spread places on the
    straight way between each two. A place is flat where the reward rises by less than 0.001 per
    standard deviation: the norm of the gradient with each feature in units of its standard
    deviation over the demonstrations. A gradient of NaN counts as flat; a feature in which the
    demonstrations do not differ has no unit and does not count.

    Parameters
    ----------
    model
        The reward R(s).
    starts
        `[k, d]` states that episodes start in, k >= 1.
    generator
        Draws the pairs.

    Returns
    -------
    0 to 1; None when the reward does not say its gradient.
    """
    experts = model.demonstrations.states
    given = ways(starts, experts, PAIRS, POINTS, generator)
    places = torch.tensor(given).reshape(-1, model.width)
    places.requires_grad_(True)
    reward = model.reward(places)
    if not reward.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(reward.sum(), places)
    return float(is_flat(gradient, experts).double().mean())


def ways(
    starts: Array, experts: Array, pairs: int, points: int, generator: np.random.Generator
) -> Array:
    """Return evenly spread places `[pairs, points, d]` on the way from a start to an expert state.

    Both are drawn for every pair; the way is straight and its ends are not among the places.
    """
    start = starts[generator.integers(len(starts), size=pairs)]
    goal = experts[generator.integers(len(experts), size=pairs)]
    along = ((np.arange(points) + 0.5) / points)[:, None]
    return np.asarray(start[:, None] + along * (goal - start)[:, None])


def is_flat(gradient: Tensor, experts: Array) -> Tensor:
    """Return `[n]` whether a reward with `gradient [n, d]` rises by less than 0.001 per unit.

    The unit of each feature is its standard deviation over the expert states.
    """
    slope: Tensor = torch.linalg.vector_norm(gradient * torch.tensor(experts.std(axis=0)), dim=1)
    return ~(slope >= FLAT)
