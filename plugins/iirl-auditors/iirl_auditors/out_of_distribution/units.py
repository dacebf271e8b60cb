"""In which units a detector compares states: those of the demonstrations, feature by feature."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A feature that hardly varies is measured in this share of its domain's width, so that leaving a
# constant counts for much and rounding errors for nothing.
_LEAST = 1e-3


@attrs.frozen(eq=False)
class Units:
    """Standardises states: 0 is the mean of the expert states and 1 their standard deviation.

    Parameters
    ----------
    low, high
        `[d]` the domain, as it is.
    center, scale
        `[d]` mean and deviation of the expert states, as shares of the domain's width.
    """

    low: Array
    high: Array
    center: Array
    scale: Array

    @classmethod
    def of(cls, states: Array, low: Array, high: Array) -> Units:
        """Return the units of expert states `[n, d]` in a domain `[d]`."""
        shares = (states - low) / (high - low)
        return cls(low, high, shares.mean(axis=0), np.maximum(shares.std(axis=0), _LEAST))

    def __call__(self, states: Array) -> Array:
        """Return states `[n, d]` in these units."""
        shares: Array = (states - self.low) / (self.high - self.low)
        return (shares - self.center) / self.scale

    def back(self, standard: Array) -> Array:
        """Return `[n, d]` in the states' own units, held in the domain."""
        shares = np.clip(standard * self.scale + self.center, 0.0, 1.0)
        return np.clip(self.low + shares * (self.high - self.low), self.low, self.high)
