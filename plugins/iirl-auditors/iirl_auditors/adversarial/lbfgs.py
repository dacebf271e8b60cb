"""Batched L-BFGS: quasi-Newton ascent on how close a state is to a flaw, from many starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.adversarial.objective import Margins
from iirl_auditors.adversarial.options import LbfgsOptions
from iirl_auditors.adversarial.starts import Starts
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_AT_ONCE = 64


class Lbfgs(Auditor[LbfgsOptions]):
    """Takes quasi-Newton steps on all searches at once; one that finds a flaw ends there."""

    family: Family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        portfolio = Starts(target, context.torch_generator())
        margins = Margins(target)
        while target.remaining >= 2:
            states, kind = portfolio.draw(min(_AT_ONCE, target.remaining // 2))
            for found, rows in ascents(margins, states, self.options.steps, self.options.memory):
                portfolio.found(found, kind[rows])
                yield found


def ascents(
    margins: Margins, states: Tensor, steps: int, memory: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield flaws `[m, d]` on the way up from `states [n, d]`, with the row that each came from.

    L-BFGS (Liu & Nocedal 1989), every row with a curvature and a step length of its own: a step
    that does not lead upward is taken back and tried a third as long.
    """
    target = margins.target
    width = target.high - target.low
    rows = torch.arange(len(states))
    here = margins(states)
    moved = states.new_zeros((len(states), 0, states.shape[1]))
    turned = moved
    length = states.new_full((len(states), 1), 1.0)
    for _ in range(steps):
        if here.flaw.any():
            yield states[here.flaw], rows[here.flaw]
        left = (~here.flaw).nonzero()[:, 0][: target.remaining // 2]
        if not len(left):
            return
        states, rows, length = states[left], rows[left], length[left]
        moved, turned = moved[left], turned[left]
        value, gradient = here.value[left], here.gradient[left]
        step = quasi_newton(gradient, moved, turned)
        wrong = (step * gradient).sum(dim=1, keepdim=True) <= 0
        step = torch.where(wrong, gradient, step)
        size = torch.linalg.vector_norm(step / width, dim=1, keepdim=True)
        first = moved.abs().sum(dim=(1, 2))[:, None] == 0
        longest = torch.where(first | wrong, 0.03, 0.5) * width.shape[0] ** 0.5
        step = step * (longest / size.clamp(min=1e-300)).clamp(max=torch.inf if first.all() else 1)
        tried = (states + length * step).clamp(target.low, target.high)
        there = margins(tried)
        better = (there.value > value) | there.flaw
        moved = torch.cat([moved, torch.where(better[:, None], tried - states, 0.0)[:, None]], 1)
        turned = torch.cat(
            [turned, torch.where(better[:, None], gradient - there.gradient, 0.0)[:, None]], 1
        )
        moved, turned = moved[:, -memory:], turned[:, -memory:]
        states = torch.where(better[:, None], tried, states)
        here = type(here)(
            torch.where(better, there.value, value),
            torch.where(better[:, None], there.gradient, gradient),
            there.flaw & better,
        )
        length = torch.where(better[:, None], (2 * length).clamp(max=1.0), length / 3)
    if here.flaw.any():
        yield states[here.flaw], rows[here.flaw]


def quasi_newton(gradient: Tensor, moved: Tensor, turned: Tensor) -> Tensor:
    """Return the L-BFGS direction of ascent `[n, d]` by the two-loop recursion.

    Parameters
    ----------
    gradient
        `[n, d]`.
    moved, turned
        `[n, m, d]` earlier steps and how much the gradient fell over each, the latest last; pairs
        without positive curvature do not count.
    """
    product = (moved * turned).sum(dim=2)
    counts = product > 1e-12 * moved.square().sum(dim=2)
    rho = torch.where(counts, 1 / product.clamp(min=1e-300), 0.0)
    step, alphas = gradient, []
    for j in reversed(range(moved.shape[1])):
        alpha = rho[:, j] * (moved[:, j] * step).sum(dim=1)
        alphas.append(alpha)
        step = step - alpha[:, None] * turned[:, j]
    scale = torch.ones(len(gradient), dtype=gradient.dtype)
    for j in range(moved.shape[1]):
        curved = turned[:, j].square().sum(dim=1).clamp(min=1e-300)
        scale = torch.where(counts[:, j], product[:, j] / curved, scale)
    step = scale[:, None] * step
    for j, alpha in zip(range(moved.shape[1]), reversed(alphas), strict=True):
        beta = rho[:, j] * (turned[:, j] * step).sum(dim=1)
        step = step + (alpha - beta)[:, None] * moved[:, j]
    return step
