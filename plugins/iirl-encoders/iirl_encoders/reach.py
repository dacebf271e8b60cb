"""How far states lie outside of where an encoder has learned anything."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class Reach:
    """The range of the scaled expert states, widened by 50 %.

    Parameters
    ----------
    low, high
        `[d]`.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, scaled: Tensor) -> Reach:
        """Return the reach of expert states `[n, d]`; a constant feature gets 0.5 either way."""
        low, high = scaled.amin(dim=0), scaled.amax(dim=0)
        margin = torch.where(high > low, (high - low) / 4, 0.5)
        return cls(low - margin, high + margin)

    def joined(self, other: Reach) -> Reach:
        """Return the least reach that holds both."""
        return Reach(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    def excess(self, scaled: Tensor) -> Tensor:
        """Return by how much each feature of states `[..., d]` leaves the range; 0 inside."""
        return (scaled - self.high).clamp(min=0) + (self.low - scaled).clamp(min=0)
