"""Bringing features to a common scale, whatever their units and magnitude."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor

from iirl_engine.api import Operation

# A state this many standard deviations away is as unlike the expert as any.
FARTHEST = 1e6


def operation() -> Operation:
    """Return the scaling of the state as the first operation of an encoder's formula."""
    return {
        "op": "scale",
        "of": 0,
        "center": "center",
        "spread": "spread",
        "farthest": FARTHEST,
    }


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
    _shift: Tensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Divide once what every call takes away."""
        object.__setattr__(self, "_shift", self.center / self.spread)

    @classmethod
    def asked(cls, standardize: bool | Literal["auto"], states: Tensor) -> Scale:
        """Return the scaling that an option `standardize` asks for.

        `auto` leaves features alone whose standard deviations lie within a factor of 10 of each
        other and of 1: they share a unit, and the loss stays in it.
        """
        standard = cls.standard(states)
        if standardize == "auto":
            low, high = float(standard.spread.min()), float(standard.spread.max())
            standardize = not (high <= 10 * low and low <= 10 and high >= 0.1)
        return standard if standardize else cls.identity(states.shape[1])

    @classmethod
    def standard(cls, states: Tensor) -> Scale:
        """Return the scaling to mean 0 and standard deviation 1.

        Constant features are scaled by their magnitude. Sums are taken relative
        to the largest magnitude, so that they stay in range from 1e-300 to 1e300.
        """
        largest = states.abs().amax(dim=0)
        unit = torch.where(largest > 0, largest, 1.0)
        relative = states / unit
        center = relative.mean(dim=0)
        spread = (relative - center).square().mean(dim=0).sqrt()
        spread = torch.where(spread > 1e-12, spread, 1.0)
        return cls(center * unit, spread * unit)

    @classmethod
    def within(cls, *classes: Tensor) -> Scale:
        """Return the scaling by the spread within classes of states, around the first's mean.

        The spread is the root of the mean of the classes' variances, so that what tells them
        apart is not scaled away. A feature that is constant in all is scaled by its magnitude.
        """
        largest = torch.cat(classes).abs().amax(dim=0)
        unit = torch.where(largest > 0, largest, 1.0)
        variances = torch.stack([(states / unit).var(dim=0, correction=0) for states in classes])
        spread = variances.mean(dim=0).sqrt()
        center = (classes[0] / unit).mean(dim=0)
        return cls(center * unit, torch.where(spread > 1e-12, spread, 1.0) * unit)

    @classmethod
    def identity(cls, width: int) -> Scale:
        """Return the scaling that changes nothing."""
        ones = torch.ones(width, dtype=torch.float64)
        return cls(torch.zeros_like(ones), ones)

    def __call__(self, states: Tensor) -> Tensor:
        """Return the scaled states."""
        return (states / self.spread - self._shift).clamp(-FARTHEST, FARTHEST)

    def gradient(self, gradient: Tensor, scaled: Tensor, states: Tensor) -> Tensor:
        """Return a gradient `[n, d]` with respect to scaled states as one with respect to states.

        By the chain rule, in place: it is 0 for what was cut.
        """
        gradient = gradient.div_(self.spread)
        if not len(scaled):
            return gradient
        low, high = scaled.aminmax()
        if max(-low, high) < FARTHEST:
            return gradient
        return gradient.mul_((states / self.spread - self._shift).abs() <= FARTHEST)
