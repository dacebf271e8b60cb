"""Where a search starts: a portfolio, and the share that each kind of start has earned."""

from __future__ import annotations

import torch
from torch import Tensor

from iirl_auditors.spread import reach
from iirl_engine.target import Target

KINDS = ("uniform", "around", "shell")
# Least share of the starts that a kind gets.
_FLOOR = 0.1
# Radius of the ball `around` an expert state, in units of the domain's width.
_RADIUS = 0.3


class Starts:
    """Draws starts of three kinds, more of the kind that leads to more new places per start.

    `uniform` in the domain, the only kind that sees flaws far from all support; uniform in a ball
    `around` an expert state, in units of the domain's width; on a `shell` around the support, one
    to three reaches away.
    """

    def __init__(self, target: Target, generator: torch.Generator) -> None:
        self._target, self._generator = target, generator
        self._expert = torch.tensor(target.demonstrations.states)
        self.reach = reach(target)
        self._drawn = torch.ones(len(KINDS), dtype=torch.float64)
        self._led = torch.ones(len(KINDS), dtype=torch.float64)
        self._found = torch.empty((0, len(target.low)), dtype=torch.float64)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` starts `[n, d]` and the number of each one's kind `[n]`."""
        target, generator = self._target, self._generator
        if count == 0:
            return self._found[:0], torch.empty(0, dtype=torch.int64)
        share = self._led / self._drawn
        share = _FLOOR + (1 - len(KINDS) * _FLOOR) * share / share.sum()
        kind = torch.multinomial(share, count, replacement=True, generator=generator)
        uniform = torch.rand(count, len(target.low), dtype=torch.float64, generator=generator)
        rows = torch.randint(len(self._expert), (count,), generator=generator)
        outward = torch.randn(count, len(target.low), dtype=torch.float64, generator=generator)
        outward = outward / torch.linalg.vector_norm(outward, dim=1, keepdim=True)
        away = 1 + 2 * torch.rand(count, dtype=torch.float64, generator=generator)
        away = away * self.reach
        share = torch.rand(count, dtype=torch.float64, generator=generator)
        radius = _RADIUS * share ** (1 / len(target.low))
        width = target.high - target.low
        offset = torch.where(
            (kind == KINDS.index("around"))[:, None], radius[:, None] * width, away[:, None]
        )
        drawn = torch.where(
            (kind == KINDS.index("uniform"))[:, None],
            target.low + uniform * width,
            self._expert[rows] + offset * outward,
        )
        self._drawn += torch.bincount(kind, minlength=len(KINDS))
        return drawn.clamp(target.low, target.high), kind

    def found(self, states: Tensor, kind: Tensor) -> None:
        """Credit the kinds of start that led to `states [m, d]` where nothing was found before."""
        for state, one in zip(states, kind.tolist(), strict=True):
            if bool((torch.cdist(state[None], self._found) > self.reach).all()):
                self._found = torch.cat([self._found, state[None]])
                self._led[one] += 1
