"""Bringing features to a common scale, whatever their units and magnitude."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

# A state this many standard deviations away is as unlike the expert as any.
FARTHEST = 1e6


@attrs.frozen(eq=False)
class Scale:
    """An affine scaling of features: (s - center) / spread, cut at +-1e6.

    Parameters
    ----------
    center, spread
        `[d]`.
    """

    center: Tensor
    spread: Tensor

    @classmethod
    def standard(cls, states: Tensor) -> Scale:
        """Return the scaling to mean 0 and standard deviation 1; constant features keep theirs.

        Sums are taken relative to the largest magnitude, so that they stay in range from 1e-300
        to 1e300.
        """
        largest = states.abs().amax(dim=0)
        unit = torch.where(largest > 0, largest, 1.0)
        relative = states / unit
        center = relative.mean(dim=0)
        spread = (relative - center).square().mean(dim=0).sqrt()
        varies = spread > 1e-12
        return cls(center * unit, torch.where(varies, spread * unit, torch.where(largest > 0, unit, 1.0)))

    @classmethod
    def identity(cls, width: int) -> Scale:
        """Return the scaling that changes nothing."""
        ones = torch.ones(width, dtype=torch.float64)
        return cls(torch.zeros_like(ones), ones)

    def __call__(self, states: Tensor) -> Tensor:
        """Return the scaled states."""
        return (states / self.spread - self.center / self.spread).clamp(-FARTHEST, FARTHEST)
