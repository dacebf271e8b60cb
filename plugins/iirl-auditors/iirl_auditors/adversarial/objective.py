"""How close a state is to being a flaw, as one number that a gradient can follow.

With the margins m_R = (log R - log floor) / max(1, |log floor|) and m_v = 3 (v - clear) / typical,
v the violation, the objective is J = soft(m_R) + soft(m_v), where soft(m) = -log(1 - m) below 0 and
0.02 tanh(m) above: a margin that is met pulls no longer, one that is far off pulls gently.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from iirl_engine.target import Target

_LOOKED_AT = 256
# A violation of this share of what is typical among the demonstrations is clear.
_CLEAR = 0.05


class Objective(NamedTuple):
    """J of some states `[n]`, its gradient `[n, d]`, and which of them are flaws `[n]`."""

    value: Tensor
    gradient: Tensor
    flaw: Tensor


class Margins:
    """Evaluates the objective of a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        expert = torch.tensor(target.demonstrations.states[:_LOOKED_AT])
        typical = float(target.violation(expert).abs().median())
        self.typical = typical if 0 < typical < math.inf else 1.0

        self.log_floor = math.log(max(target.floor, 1e-12))
        self.scale = max(1.0, abs(self.log_floor))

    def value(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective `[n]` of states `[n, d]` and which are flaws; a query per state."""
        of_reward = (self.target.log_reward(states) - self.log_floor) / self.scale
        of_violation = 3 * (self.target.violation(states) / self.typical - _CLEAR)
        return soft(of_reward) + soft(of_violation), (of_reward > 0) & (of_violation > 0)

    def __call__(self, states: Tensor) -> Objective:
        """Return the objective of states `[n, d]`; two queries per state."""
        log_reward, uphill = self.target.log_reward_and_gradient(states)
        violation, outward = self.target.violation_and_gradient(states)
        of_reward = (log_reward - self.log_floor) / self.scale
        of_violation = 3 * (violation / self.typical - _CLEAR)
        value = soft(of_reward) + soft(of_violation)
        gradient = (slope(of_reward) / self.scale)[:, None] * uphill
        gradient = gradient + (3 / self.typical * slope(of_violation))[:, None] * outward
        gradient = torch.where(torch.isfinite(gradient), gradient, 0.0)
        flaw = (of_reward > 0) & (of_violation > 0)
        return Objective(value, gradient, flaw)


def soft(margin: Tensor) -> Tensor:
    """Return -log(1 - m) for margins below 0, 0.02 tanh(m) above."""
    return torch.where(
        margin < 0, -torch.log1p(-margin.clamp(max=0)), 0.02 * torch.tanh(margin.clamp(min=0))
    )


def slope(margin: Tensor) -> Tensor:
    """Return the derivative of `soft`."""
    above = 0.02 / torch.cosh(margin.clamp(0, 20)).square()
    return torch.where(margin < 0, 1 / (1 - margin.clamp(max=0)), above)
