"""An archive of different states: the best one of every distance and direction from the support."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.adversarial.objective import Margins
from iirl_auditors.adversarial.options import ArchiveOptions
from iirl_auditors.adversarial.starts import Starts
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_BATCH = 64


class Archive(Auditor[ArchiveOptions]):
    """Quality-diversity search (MAP-Elites, Mouret & Clune 2015) with steps along the gradient.

    Every cell, a bin of the violation and the nearest of some random directions, keeps its best
    state. Half of the offspring of a cell climb the objective, half are moved at random, so that
    cells far from each other fill, and different flaws are found.
    """

    family: Family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        portfolio, margins = Starts(target, generator), Margins(target)
        width = target.high - target.low
        middle = torch.tensor(target.demonstrations.states).mean(dim=0)
        shape = (self.options.directions, len(width))
        directions = torch.randn(shape, dtype=torch.float64, generator=generator)
        directions /= torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        cells = self.options.distances * self.options.directions
        elites = torch.zeros(cells, len(width), dtype=torch.float64)
        uphill = torch.zeros_like(elites)
        best = torch.full((cells,), -torch.inf, dtype=torch.float64)
        while target.remaining >= 2:
            count = min(_BATCH, target.remaining // 2)
            filled = (best > -torch.inf).nonzero()[:, 0]
            states, _ = portfolio.draw(count)
            if len(filled) >= 2:
                parents = filled[torch.randint(len(filled), (count,), generator=generator)]
                noise = torch.randn(states.shape, dtype=torch.float64, generator=generator)
                size = torch.rand(count, 1, dtype=torch.float64, generator=generator)
                climb = uphill[parents] * width
                length = torch.linalg.vector_norm(climb, dim=1, keepdim=True)
                climb = torch.where(length > 0, climb / length.clamp(min=1e-300), 0.0)
                climbs = torch.arange(count)[:, None] % 2 == 0
                step = torch.where(climbs, climb * width, noise * portfolio.reach)
                bred = elites[parents] + torch.where(climbs, 0.1, 1.0) * size * step
                fresh = torch.arange(count)[:, None] % 8 == 7
                states = torch.where(fresh, states, bred).clamp(target.low, target.high)
            here = margins(states)
            if here.flaw.any():
                yield states[here.flaw]
            violation = target.violation(states) / margins.typical
            cell = cell_of(states - middle, violation, directions, self.options.distances)
            # Of several new ones in a cell the best is kept; the others are overwritten first.
            for row in here.value.argsort(stable=True).tolist():
                one = int(cell[row])
                if here.value[row] > best[one]:
                    best[one] = here.value[row]
                    elites[one], uphill[one] = states[row], here.gradient[row]


def cell_of(away: Tensor, violation: Tensor, directions: Tensor, distances: int) -> Tensor:
    """Return the cell `[n]` of states that lie `away [n, d]` from the middle of the support.

    Parameters
    ----------
    violation
        `[n]` in units of what is typical; bins grow by a factor of 2 from -1 on.
    directions
        `[k, d]` of length 1.
    distances
        Number of bins.
    """
    height = torch.log2((violation + 1).clamp(min=0.25)) + 2
    level = height.floor().clamp(0, distances - 1).long()
    return level * len(directions) + (away @ directions.T).argmax(dim=1)
