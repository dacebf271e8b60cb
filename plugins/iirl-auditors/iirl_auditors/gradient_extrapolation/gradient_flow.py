"""Following the reward's gradient out of the support: along the ridges that leave it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.gradient_extrapolation.options import GradientFlowOptions
from iirl_auditors.gradient_extrapolation.outward import outward, unit
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_PATHS = 64


class GradientFlow(Auditor[GradientFlowOptions]):
    """Starts at expert states and flows out, steered sideways by the reward's gradient.

    Where `ray` goes straight, a flow bends towards higher reward and so keeps to a ridge that
    leads out of the support. Every state on its way that is endorsed and forbidden is reported.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states)
        width, steps = target.high - target.low, self.options.steps
        while target.remaining >= 2:
            count = max(1, min(target.remaining // (2 * steps), _PATHS))
            rows = torch.randint(len(expert), (count,), generator=generator)
            states = expert[rows].clamp(target.low, target.high)
            before = unit(torch.randn(count, len(width), dtype=torch.float64, generator=generator))
            for _ in range(min(steps, target.remaining // (2 * count))):
                reward, uphill = target.reward_and_gradient(states)
                yield states[(reward > target.floor) & (target.violation(states) > 0)]
                _, away = outward(states, target, before)
                before = flow(uphill * width, away)
                states = (states + before * width / steps).clamp(target.low, target.high)


def flow(uphill: Tensor, away: Tensor) -> Tensor:
    """Return the directions `[n, d]` of ascent among those that do not lead back.

    u is the unit vector away from the support and g the gradient without the part that leads
    back, g - min(0, g·u) u; the direction is that of u + g / |g|, and u where the reward is flat.

    Parameters
    ----------
    uphill, away
        `[n, d]` gradient of the reward, and unit vectors, in units of the domain's width.
    """
    climb = unit(uphill)
    back = (climb * away).sum(dim=1, keepdim=True).clamp(max=0)
    return unit(away + unit(climb - back * away))
