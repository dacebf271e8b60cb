"""Whether flaws are near given states: projected gradient ascent inside balls around them."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.gradient import value_and_gradient
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Found:
    """What a local search found.

    Parameters
    ----------
    flawed
        `[c, starts]` whether a search that began in each ball came upon a flaw.
    states
        `[m, d]` the flaws, the last that each such search came upon.
    queries
        Reward queries that it took; a gradient costs two.
    """

    flawed: NDArray[np.bool_]
    states: Array
    queries: int


def search_near(
    model: RewardModel,
    centers: Array,
    radii: Array,
    floor: float,
    *,
    starts: int,
    steps: int,
    generator: torch.Generator,
) -> Found:
    """Search balls for states that the reward endorses and a norm forbids.

    From starts drawn uniformly in each ball: where a state is forbidden, up the gradient of the
    reward; where it is allowed, up that of the worst violation. Steps are normalised, shrink
    linearly from half the radius, and are projected on the ball and the domain (projected gradient
    ascent, Madry et al. 2018, in the Euclidean norm).

    Parameters
    ----------
    model, floor
        The reward; above the floor it endorses.
    centers, radii
        `[c, d]` and `[c]` > 0.
    starts, steps
        Of the search in each ball: `starts * (2 steps + 1)` queries.
    generator
        Draws the starts.
    """
    count, width = centers.shape
    middle = torch.tensor(centers).repeat_interleave(starts, dim=0)
    radius = torch.tensor(radii).repeat_interleave(starts)[:, None]
    low = torch.tensor(model.domain.low, dtype=torch.float64)
    high = torch.tensor(model.domain.high, dtype=torch.float64)

    def inside(states: Tensor) -> Tensor:
        apart = states - middle
        length = torch.linalg.vector_norm(apart, dim=1, keepdim=True)
        cut: Tensor = (middle + apart * (radius / length).clamp(max=1)).clamp(low, high)
        return cut

    noise = torch.randn(middle.shape, dtype=torch.float64, generator=generator)
    share = torch.rand(len(middle), 1, dtype=torch.float64, generator=generator)
    unit = noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True)
    states = inside(middle + radius * share ** (1 / width) * unit)
    flawed = torch.zeros(len(states), dtype=torch.bool)
    found = states.clone()
    for step in range(steps + 1):
        if step < steps:
            reward, uphill = model.reward_and_gradient(states)
        else:
            with torch.no_grad():
                reward = model.reward(states)
        violation, outward = value_and_gradient(model.violation, states)
        is_flaw = (reward > floor) & (violation > 0)
        flawed |= is_flaw
        found = torch.where(is_flaw[:, None], states, found)
        if step < steps:
            direction = torch.where((violation > 0)[:, None], uphill, outward)
            length = torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp(min=1e-300)
            states = inside(states + radius * (1 - step / steps) / 2 * direction / length)
    return Found(
        flawed=flawed.reshape(count, starts).numpy(),
        states=found[flawed].numpy(),
        queries=len(states) * (2 * steps + 1),
    )
