"""Places where the reward changes far faster than it does among the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.gradient_extrapolation.options import LipschitzOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_CHORDS = 256


class Lipschitz(Auditor[LipschitzOptions]):
    """Halves chords towards their steepest place, and goes uphill from the anomalous ones.

    Chords lead from expert states to anywhere in the domain. An edge that the reward should not
    have, such as that of a spike or of a cliff, is steeper than anything between demonstrations;
    behind it lies a state that is endorsed. Every state on the way that is endorsed and forbidden
    is reported. The difference quotient along a chord is a lower bound of the local Lipschitz
    constant (Weng et al. 2018 estimate the same from gradients) and sees jumps, too.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states)
        width = target.high - target.low
        usual = self._usual(target, expert, generator)
        while target.remaining:
            count = max(1, min(target.remaining // (self.options.halvings + 5), _CHORDS))
            rows = torch.randint(len(expert), (count,), generator=generator)
            uniform = torch.rand(count, len(width), dtype=torch.float64, generator=generator)
            ends = expert[rows].clamp(target.low, target.high), target.low + width * uniform
            chords = torch.stack(ends, dim=1)
            if target.remaining < 2 * count:
                chords = chords[:, 1:]
            asked = chords.reshape(-1, len(width))
            reward = target.reward(asked)
            yield asked[(reward > target.floor) & (target.violation(asked) > 0)]
            if chords.shape[1] < 2:
                return
            values = reward.reshape(count, 2)
            for _ in range(self.options.halvings):
                if target.remaining < count:
                    return
                middle = chords.mean(dim=1)
                reward = target.reward(middle)
                yield middle[(reward > target.floor) & (target.violation(middle) > 0)]
                chords, values = steeper_half(chords, values, middle, reward)
            yield from self._climb(target, chords[slope(chords, values, width) > usual])

    def _usual(self, target: Target, expert: Tensor, generator: torch.Generator) -> Tensor:
        """Return the slope beyond which a place is anomalous, for 1/8 of the budget at most."""
        some = torch.randperm(len(expert), generator=generator)[: target.budget // 16]
        if not len(some):
            return torch.zeros((), dtype=torch.float64)
        _, gradient = target.reward_and_gradient(expert[some])
        steepest = torch.linalg.vector_norm(gradient * (target.high - target.low), dim=1).amax()
        return self.options.factor * steepest

    def _climb(self, target: Target, chords: Tensor) -> Iterator[Tensor]:
        """Go on from the steep places, over their higher end, by up to 1/16 of the domain."""
        chords = chords[: target.remaining // 4]
        if not len(chords):
            return
        width = target.high - target.low
        along = (chords[:, 1] - chords[:, 0]) / width
        along = along / torch.linalg.vector_norm(along, dim=1, keepdim=True)
        for size in (1 / 64, -1 / 64, 1 / 16, -1 / 16):
            states = (chords.mean(dim=1) + size * width * along).clamp(target.low, target.high)
            reward = target.reward(states)
            yield states[(reward > target.floor) & (target.violation(states) > 0)]


def steeper_half(
    chords: Tensor, values: Tensor, middle: Tensor, between: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the half of each chord over which the reward changes more, and its two rewards.

    Repeated k times, the difference quotient of the half is at least that of the chord, and at a
    jump it doubles each time.

    Parameters
    ----------
    chords, values
        `[n, 2, d]` and `[n, 2]` ends of the chords and their rewards.
    middle, between
        `[n, d]` and `[n]` middles of the chords and their rewards.
    """
    first = (values[:, 0] - between).abs() >= (values[:, 1] - between).abs()
    halves = torch.stack([chords[:, 0], middle], 1), torch.stack([middle, chords[:, 1]], 1)
    rewards = torch.stack([values[:, 0], between], 1), torch.stack([between, values[:, 1]], 1)
    return (
        torch.where(first[:, None, None], *halves),
        torch.where(first[:, None], *rewards),
    )


def slope(chords: Tensor, values: Tensor, width: Tensor) -> Tensor:
    """Return |R(a) - R(b)| / |a - b| of chords `[n, 2, d]`, lengths in units of the domain's width.

    A chord of length 0 has slope 0.
    """
    length = torch.linalg.vector_norm((chords[:, 0] - chords[:, 1]) / width, dim=1)
    change = (values[:, 0] - values[:, 1]).abs()
    return torch.where(length > 0, change / length, 0.0)
