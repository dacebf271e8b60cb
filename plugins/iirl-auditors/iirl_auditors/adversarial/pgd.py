"""Projected gradient ascent on how close a state is to a flaw, from many kinds of start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.adversarial.objective import Margins
from iirl_auditors.adversarial.options import PgdOptions
from iirl_auditors.adversarial.starts import Starts
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_AT_ONCE = 64
_MEAN, _SQUARE = 0.9, 0.999


class Pgd(Auditor[PgdOptions]):
    """Climbs from many starts at once; who has used up its steps starts anew.

    A search that finds a flaw goes on for a few steps: what drives it on, towards more reward or
    farther off, leads it through the small flaws that lie together along the boundary of a norm.
    The objective wants the reward above the floor and a norm violated (Madry et al. 2018, with a
    distance term); its steps are Adam's (`rule = "adam"`), or of one length in the norm L2 or Linf,
    and shrink linearly over each search's own steps.
    """

    family: Family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        count = min(_AT_ONCE, target.budget // 2)
        if not count:
            return
        margins, portfolio = Margins(target), Starts(target, generator)
        width = target.high - target.low
        states, kind = portfolio.draw(count)
        steps = self.options.steps
        age, end = torch.zeros(count, dtype=torch.int64), torch.full((count,), steps)
        mean, square = torch.zeros_like(states), torch.zeros_like(states)
        while target.remaining >= 2:
            states, kind, age, end = (x[: target.remaining // 2] for x in (states, kind, age, end))
            mean, square = mean[: len(states)], square[: len(states)]
            _, uphill, flaw = margins(states)
            if flaw.any():
                first = flaw & (end == steps)
                portfolio.found(states[first], kind[first])
                yield states[flaw]
            age += 1
            end = torch.where(flaw, torch.minimum(end, age + self.options.linger), end)
            left = (1 - age / steps).clamp(min=0.07)[:, None]
            step, mean, square = direction(uphill * width, mean, square, age, self.options.rule)
            states = states + self.options.step_size * left * width * step
            states = states.clamp(target.low, target.high)
            done = age >= end
            states[done], kind[done] = portfolio.draw(int(done.sum()))
            age[done], end[done], mean[done], square[done] = 0, steps, 0.0, 0.0


def direction(
    uphill: Tensor, mean: Tensor, square: Tensor, age: Tensor, rule: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the direction of each search's step `[n, d]`, and Adam's two moments.

    Parameters
    ----------
    uphill
        `[n, d]` gradients in units of the domain's width.
    mean, square
        `[n, d]` the moments before (Kingma & Ba 2015).
    age
        `[n]` steps taken, this one included.
    rule
        `adam`; `l2` for the steepest step of length 1, `linf` for the one of largest entry 1.
    """
    # Scaled first, so that tiny gradients of a nearly flat reward still have a direction.
    largest = uphill.abs().amax(dim=1, keepdim=True)
    scaled = torch.where(largest > 0, uphill / largest, 0.0)
    if rule == "linf":
        return scaled.sign(), mean, square
    if rule == "l2":
        length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        return scaled / length.clamp(min=1), mean, square
    mean = _MEAN * mean + (1 - _MEAN) * uphill
    square = _SQUARE * square + (1 - _SQUARE) * uphill.square()
    one = age[:, None].double()
    root = (square / (1 - _SQUARE**one)).sqrt()
    return mean / (1 - _MEAN**one) / root.clamp(min=1e-150), mean, square
