"""Walking outward from expert states, to see whether the reward falls beyond the support."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.gradient_extrapolation.options import RayOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target


class Ray(Auditor[RayOptions]):
    """Follows straight rays, half along the reward's gradient and half in random directions.

    Each ray starts at an expert state and ends where it leaves the domain; probes stand at equal
    distances, from a random first one. Directions are drawn and scaled in units of the domain's
    width, so that features of any unit count alike.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states)
        width = target.high - target.low
        price = 2 * self.options.steps + 2
        while target.remaining >= price:
            count = min(target.remaining // price, 64)
            rows = torch.randint(len(expert), (count,), generator=generator)
            starts = expert[rows].clamp(target.low, target.high)
            _, gradient = target.reward_and_gradient(starts)
            random = torch.randn(starts.shape, dtype=torch.float64, generator=generator)
            uphill = gradient * width
            flat = uphill.abs().amax(dim=1, keepdim=True) == 0
            uphill = torch.where(flat, -random, uphill / uphill.abs().amax(dim=1, keepdim=True))
            for direction in (uphill, random):
                offset = torch.rand(count, 1, dtype=torch.float64, generator=generator)
                probes = ray(
                    starts, direction * width, target.low, target.high, self.options.steps, offset
                )
                forbidden = probes[target.violation(probes) > 0]
                if len(forbidden):
                    yield forbidden[target.reward(forbidden) > target.floor]


def ray(
    starts: Tensor, directions: Tensor, low: Tensor, high: Tensor, steps: int, offset: Tensor
) -> Tensor:
    """Return `[n steps, d]` probes at equal distances from each start to the domain's edge.

    Parameters
    ----------
    starts, directions
        `[n, d]`; starts lie in the domain.
    low, high
        `[d]` corners of the domain.
    steps
        Probes per ray.
    offset
        `[n, 1]` in [0, 1): where within the first interval the first probe stands.
    """
    edge = torch.where(directions > 0, high, low)
    reach = torch.where(directions == 0, torch.inf, (edge - starts) / directions).amin(dim=1)
    reach = torch.where(torch.isfinite(reach), reach, 0.0)
    share = (torch.arange(steps, dtype=torch.float64) + offset) / steps
    probes = starts[:, None] + (reach[:, None] * share)[:, :, None] * directions[:, None]
    return probes.reshape(-1, starts.shape[1]).clamp(low, high)
