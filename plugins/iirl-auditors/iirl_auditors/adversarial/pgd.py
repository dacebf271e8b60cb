"""Projected gradient ascent on the reward, held where a norm forbids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.adversarial.options import PgdOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.audit import Target


class Pgd(Auditor[PgdOptions]):
    """Climbs the reward from many starts at once and keeps the best forbidden state of each.

    A state that the norms allow climbs the violation instead, until it is forbidden; a forbidden
    one climbs the reward without the part of the gradient that leads back. Half of the starts
    are uniform in the domain, half lie around expert states. Steps are normalised in units of
    the domain's width and shrink linearly (Madry et al. 2018, with a distance term).
    """

    family: Family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        price = 2 * self.options.steps
        while target.remaining >= price:
            states = _starts(target, min(target.remaining // price, 128), generator)
            best = torch.full((len(states),), -torch.inf, dtype=torch.float64)
            kept = states.clone()
            for step in range(self.options.steps):
                reward, uphill = target.reward_and_gradient(states)
                violation, outward = target.violation_and_gradient(states)
                better = (violation > 0) & (reward > best)
                best = torch.where(better, reward, best)
                kept = torch.where(better[:, None], states, kept)
                size = self.options.step_size * (1 - step / self.options.steps)
                states = ascend(states, uphill, violation, outward, size, target.low, target.high)
            yield kept[best > target.floor]


def ascend(
    states: Tensor,
    uphill: Tensor,
    violation: Tensor,
    outward: Tensor,
    size: float,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Return the states `[n, d]` after one step of length `size` in units of the domain's width.

    Parameters
    ----------
    uphill, outward
        `[n, d]` gradients of the reward and of the violation.
    violation
        `[n]`.
    """
    width = high - low
    climb, leave = _unit(uphill * width), _unit(outward * width)
    back = (climb * leave).sum(dim=1, keepdim=True).clamp(max=0)
    direction = torch.where(violation[:, None] > 0, _unit(climb - back * leave), leave)
    return (states + size * width * direction).clamp(low, high)


def _starts(target: Target, count: int, generator: torch.Generator) -> Tensor:
    width = target.high - target.low
    expert = torch.tensor(target.demonstrations.states)
    uniform = torch.rand(count, len(width), dtype=torch.float64, generator=generator)
    rows = torch.randint(len(expert), (count,), generator=generator)
    noise = torch.randn(count, len(width), dtype=torch.float64, generator=generator)
    around = expert[rows] + 0.1 * width * noise
    is_uniform = torch.arange(count)[:, None] % 2 == 0
    return torch.where(is_uniform, target.low + width * uniform, around).clamp(
        target.low, target.high
    )


def _unit(vectors: Tensor) -> Tensor:
    # Scaled first, so that tiny gradients of a nearly flat reward still have a direction.
    largest = vectors.abs().amax(dim=1, keepdim=True)
    scaled = torch.where(largest > 0, vectors / largest, 0.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return torch.where(length > 0, scaled / length, 0.0)
