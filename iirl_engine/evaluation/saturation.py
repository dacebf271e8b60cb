"""Where a learner finds nothing to climb: how flat a reward is on the way to the expert."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

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
    start = starts[generator.integers(len(starts), size=PAIRS)]
    goal = experts[generator.integers(len(experts), size=PAIRS)]
    along = ((np.arange(POINTS) + 0.5) / POINTS)[:, None, None]
    places = torch.tensor(start + along * (goal - start)).reshape(-1, model.width)
    places.requires_grad_(True)
    reward = model.reward(places)
    if not reward.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(reward.sum(), places)
    slope = torch.linalg.vector_norm(gradient * torch.tensor(experts.std(axis=0)), dim=1)
    return float((~(slope >= FLAT)).double().mean())
