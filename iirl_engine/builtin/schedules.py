"""Schedules β(s, t): how strongly the reward is applied, by time or by region."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from iirl_engine.api import Schedule
from iirl_engine.builtin.options import (
    ConstantOptions,
    ExponentialOptions,
    LinearDecayOptions,
    RegionOptions,
)


class Constant(Schedule[ConstantOptions]):
    """β = strength."""

    def strength(self, states: Tensor, t: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        return torch.full_like(t, self.options.strength)


class Exponential(Schedule[ExponentialOptions]):
    """β = end + (start - end) 2^(-t / half_life)."""

    def strength(self, states: Tensor, t: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        start, end = self.options.start, self.options.end
        return end + (start - end) * torch.exp2(-t / self.options.half_life)


class Linear(Schedule[LinearDecayOptions]):
    """β falls from start to end over the duration, then stays there."""

    def strength(self, states: Tensor, t: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        start, end = self.options.start, self.options.end
        return start + (end - start) * (t / self.options.duration).clamp(max=1)


class Region(Schedule[RegionOptions]):
    """β is one number where a norm is kept and another where it is violated."""

    def norms(self) -> tuple[str, ...]:
        return (self.options.norm,)

    def strength(self, states: Tensor, t: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        kept = (violations[self.options.norm] <= 0).to(t.dtype)
        return self.options.inside * kept + self.options.outside * (1 - kept)
