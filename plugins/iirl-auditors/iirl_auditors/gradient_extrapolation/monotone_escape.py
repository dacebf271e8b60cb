"""Ways out of the support along which the reward does not fall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.gradient_extrapolation.options import MonotoneEscapeOptions
from iirl_auditors.gradient_extrapolation.outward import outward, unit
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_PATHS = 64
# Each halving of the stretch around the highest rise costs two queries.
_HALVINGS = 4


class MonotoneEscape(Auditor[MonotoneEscapeOptions]):
    """Moves away from the nearest expert state, step by step, and homes in on every rise.

    A reward that extrapolates soundly falls with the distance from the support. Where it is as
    high as at a state of the same way that is nearer, the stretch around the highest such place
    is halved for its peak. Every state on the way that is endorsed and forbidden is reported.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states)
        price = self.options.steps + 2 * _HALVINGS
        while target.remaining:
            count = max(1, min(target.remaining // price, _PATHS))
            rows = torch.randint(len(expert), (count,), generator=generator)
            starts = expert[rows].clamp(target.low, target.high)
            steps = min(self.options.steps, target.remaining // count)
            paths, distance = escape(starts, target, steps, generator)
            probes = paths.reshape(-1, paths.shape[2])
            reward = target.reward(probes)
            yield probes[(reward > target.floor) & (target.violation(probes) > 0)]
            gained = rise(distance, reward.reshape(count, steps)).masked_fill(
                target.violation(probes).reshape(count, steps) <= 0, -torch.inf
            )
            highest, place = gained.max(dim=1)
            rising, place = paths[highest >= 0], place[highest >= 0]
            value = reward.reshape(count, steps)[highest >= 0, place]
            peak = rising[torch.arange(len(rising)), place]
            for halving in range(1, _HALVINGS + 1):
                if not len(rising) or target.remaining < 2 * len(rising):
                    break
                for neighbour in (place - 1, place + 1):
                    beside = rising[torch.arange(len(rising)), neighbour.clamp(0, steps - 1)]
                    towards = peak + (beside - peak) * 0.5**halving
                    reward = target.reward(towards)
                    yield towards[(reward > target.floor) & (target.violation(towards) > 0)]
                    better = reward > value
                    peak = torch.where(better[:, None], towards, peak)
                    value = torch.where(better, reward, value)


def escape(
    starts: Tensor, target: Target, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return ways out `[n, steps, d]` and the distance from the support `[n, steps]` along them.

    From each start s <- s + h u, u away from the nearest expert state, at first in a random
    direction; the steps h are such that together they measure the domain's width. No query.
    """
    width = target.high - target.low
    before = unit(torch.randn(starts.shape, dtype=torch.float64, generator=generator))
    first = torch.rand(len(starts), 1, dtype=torch.float64, generator=generator) / steps
    states = (starts + first * before * width).clamp(target.low, target.high)
    places, distances = [], []
    for _ in range(steps):
        distance, before = outward(states, target, before)
        places.append(states)
        distances.append(distance)
        states = (states + before * width / steps).clamp(target.low, target.high)
    return torch.stack(places, dim=1), torch.stack(distances, dim=1)


def rise(distance: Tensor, reward: Tensor) -> Tensor:
    """Return how far each reward `[n, k]` exceeds the least of a nearer state on the same way.

    -Inf where no state of the way is nearer to the support; below 0 where the reward fell.

    Parameters
    ----------
    distance, reward
        `[n, k]` of the k states of each of n ways.
    """
    nearer = distance[:, None, :] < distance[:, :, None]
    least = reward[:, None, :].masked_fill(~nearer, torch.inf).amin(dim=2)
    return reward - least
