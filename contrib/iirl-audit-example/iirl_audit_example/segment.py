"""Straight lines through pairs of expert states, to see what the reward makes of the gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from iirl_audit_example.options import SegmentOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

BATCH = 4096


class Segment(Auditor[SegmentOptions]):
    """Asks about states between two expert states, and beyond the second.

    Every probe has a pair of its own, and only states that a norm forbids cost a query.
    """

    family: ClassVar[Family] = "out-of-distribution"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states).clamp(target.low, target.high)
        for start in range(0, target.remaining, BATCH):
            count = min(BATCH, self.options.budget - start)
            pair = torch.randint(len(expert), (2, count), generator=generator)
            place, chance = torch.rand(2, count, dtype=torch.float64, generator=generator)
            place += chance < self.options.beyond
            states = along(expert[pair[0]], expert[pair[1]], target.low, target.high, place)
            forbidden = states[target.violation(states) > 0]
            if len(forbidden):
                yield forbidden[target.reward(forbidden) > target.floor]


def along(starts: Tensor, ends: Tensor, low: Tensor, high: Tensor, place: Tensor) -> Tensor:
    """Return `[n, d]` states on the lines from starts through ends, at a place on each.

    With u = ends - starts and T the largest t for which starts + t u is in the domain, the state
    is starts + t u, where t = p for p <= 1 and t = 1 + (p - 1) (T - 1) beyond: place 0 is the
    start, 1 the end, and 2 the edge of the domain.

    Parameters
    ----------
    starts, ends
        `[n, d]` in the domain.
    low, high
        `[d]` corners of the domain.
    place
        `[n]` in [0, 2].
    """
    step = ends - starts
    edge = torch.where(step > 0, high, low)
    last = torch.where(step == 0, torch.inf, (edge - starts) / step).amin(dim=1)
    last = torch.where(torch.isfinite(last), last, 1.0)  # start and end are one state
    t = torch.where(place <= 1, place, 1 + (place - 1) * (last - 1))
    return (starts + t[:, None] * step).clamp(low, high)
