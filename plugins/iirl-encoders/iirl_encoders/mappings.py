"""Monotone mappings g_ψ from expertness loss to reward."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf

import torch
from torch import Tensor

from iirl_encoders.options import ExpOptions, LinearOptions
from iirl_engine import Context, Mapping

# Experts whose losses differ by less than this share of the largest are taken as alike.
_ALIKE = 1e-9
_MOST = 1e308


class Exp(Mapping[ExpOptions]):
    """g(L) = exp(-k (L - l_min) / (l_max - l_min)), at most 1 (MoE-GUIDE, arXiv 2507.15287)."""

    def fit(self, loss: Tensor, context: Context) -> None:
        asked_low, asked_high = self.options.l_min, self.options.l_max
        low = float(loss.min()) if asked_low == "auto" else asked_low
        if asked_high == "auto":
            high = max(_quantile(loss), low + _least_spread(low))
        else:
            high = asked_high
            low = min(low, high - _least_spread(high)) if asked_low == "auto" else low
        self._limits = torch.tensor([low, high], dtype=torch.float64)

    def map(self, loss: Tensor) -> Tensor:
        low, high = self._limits
        return torch.exp(-self.options.steepness * (loss - low) / (high - low)).clamp(max=1)

    def tensors(self) -> dict[str, Tensor]:
        return {"limits": self._limits}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        self._limits = tensors["limits"]


class Linear(Mapping[LinearOptions]):
    """g(L) = 1 - clip(L / cap, 0, 1)."""

    def fit(self, loss: Tensor, context: Context) -> None:
        asked = self.options.cap
        cap = min(max(3 * _quantile(loss), _least_spread(0.0)), _MOST) if asked == "auto" else asked
        self._cap = torch.tensor([cap], dtype=torch.float64)

    def map(self, loss: Tensor) -> Tensor:
        return 1 - (loss / self._cap).clamp(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        return {"cap": self._cap}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        self._cap = tensors["cap"]


def _quantile(loss: Tensor) -> float:
    ordered = loss.sort().values
    return float(ordered[round(0.99 * (len(ordered) - 1))])


def _least_spread(size: float) -> float:
    return max(_ALIKE * abs(size), 1e-12)
