"""Which way a reward rises: by autograd, by the chain rule, and where it is too small to rise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from iirl_engine import api
from iirl_engine.answers import all_finite

# A reward of no more than this is as good as none.
TINY = 1e-250


def value_and_gradient(
    function: Callable[[Tensor], Tensor], states: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a function's values `[n]` at `states [n, d]` and, by autograd, its gradient `[n, d]`.

    Where the gradient cannot be told it is 0.
    """
    with torch.enable_grad():
        asked = states.detach().clone().requires_grad_(True)
        value = function(asked)
        if not value.requires_grad:
            return value.detach(), torch.zeros_like(asked)
        (gradient,) = torch.autograd.grad(value.sum(), asked)
    return value.detach(), told(gradient)


def told(gradient: Tensor) -> Tensor:
    """Return 0 where a gradient is no number: a search finds no direction there."""
    if all_finite(gradient):
        return gradient
    return torch.where(torch.isfinite(gradient), gradient, 0.0)


@attrs.frozen(eq=False)
class Slopes:
    """A reward R = f(L(s), s) with the parts of its gradient.

    Parameters
    ----------
    reward
        `[n]`.
    loss, loss_gradient
        L `[n]` and dL/ds `[n, d]`.
    by_loss
        df/dL `[n]`.
    by_states
        df/ds at a given loss, `[n, d]`, which comes from corrections; None without them.
    """

    reward: Tensor
    loss: Tensor
    loss_gradient: Tensor
    by_loss: Tensor
    by_states: Tensor | None = None

    @property
    def gradient(self) -> Tensor:
        """dR/ds = df/dL dL/ds + df/ds, `[n, d]`."""
        gradient = self.loss_gradient * self.by_loss[:, None]
        if self.by_states is not None:
            gradient += self.by_states
        return gradient


def log_reward(reward: Tensor, loss: Tensor, nothing: float) -> Tensor:
    """Return log R `[n]` of `reward [n]`, going on as -c L beyond the loss `nothing`.

    c is such that nothing jumps: log R is log(1e-250) where the mapping gives that, and also
    where corrections leave no reward.
    """
    value = reward.clamp(min=TINY).log()
    beyond = (reward <= TINY) & (loss > nothing)
    value = torch.where(beyond, math.log(TINY) / nothing * loss, value)
    return value.nan_to_num(nan=math.log(TINY))


def log_slope(slopes: Slopes, nothing: float) -> Tensor:
    """Return the gradient `[n, d]` of `log_reward`: 0 where corrections leave no reward."""
    seen = (slopes.reward > TINY)[:, None]
    beyond = ~seen & (slopes.loss > nothing)[:, None]
    gradient = slopes.gradient / slopes.reward.clamp(min=TINY)[:, None]
    rate = math.log(TINY) / nothing
    far = torch.where(beyond, rate * slopes.loss_gradient, 0.0)
    return told(torch.where(seen, gradient, far))


def loss_of_nothing(mapping: api.Mapping[Any]) -> float:
    """Return the loss from which on a mapping gives less than 1e-250, to a share of 1e-9."""
    low, high = 1e-300, 1e300
    with torch.no_grad():
        while high > low * (1 + 1e-9):
            middle = math.sqrt(low) * math.sqrt(high)
            base = mapping.map(torch.tensor([middle], dtype=torch.float64))
            low, high = (middle, high) if float(base) > TINY else (low, middle)
    return high
