"""Boxes of states: axis-aligned ones, and boxes in slices {origin + u axes} of the states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Region:
    """What is to be proved of: the states origin + u axes for low <= u <= high.

    Parameters
    ----------
    low, high
        `[q]`.
    origin
        `[d]`, or None: then u is the state itself, and q = d.
    axes
        `[q, d]`, or None as `origin`.
    """

    low: Array
    high: Array
    origin: Array | None = None
    axes: Array | None = None


@attrs.frozen(eq=False)
class Boxes:
    """A batch of boxes: the states origin + (center + t half) axes for t in [-1, 1]^q.

    Parameters
    ----------
    center, half
        `[n, q]`.
    origin
        `[n, d]` or `[1, d]`.
    axes
        `[n, q, d]` or `[1, q, d]`.
    """

    center: Tensor
    half: Tensor
    origin: Tensor
    axes: Tensor

    @classmethod
    def between(cls, low: Array, high: Array, origin: Array, axes: Array) -> Boxes:
        """Return the boxes with corners `low` and `high`, `[n, q]`; the half is rounded up."""
        center = low / 2 + high / 2
        half = np.nextafter(np.maximum(high - center, center - low), np.inf)
        return cls(*(torch.from_numpy(part) for part in (center, half, origin, axes)))

    def middle(self) -> Tensor:
        """Return the state in the middle of each box, `[n, d]`."""
        return self.origin + (self.center[:, None] @ self.axes)[:, 0]

    def extent(self) -> Tensor:
        """Return how far each box reaches along each feature, `[n, d]`, rounded up."""
        wide = (self.half[:, None] @ self.axes.abs())[:, 0]
        size = self.origin.abs() + (self.center.abs()[:, None] @ self.axes.abs())[:, 0] + wide
        return wide + (self.axes.shape[1] + 8) * 2.0**-52 * size


def frames(regions: Sequence[Region], width: int) -> tuple[Array, Array]:
    """Return the origins `[r, d]` and axes `[r, q, d]` of regions of one dimension."""
    origins: list[Any] = [np.zeros(width) if r.origin is None else r.origin for r in regions]
    axes: list[Any] = [np.eye(width) if r.axes is None else r.axes for r in regions]
    return np.array(origins, dtype=np.float64), np.array(axes, dtype=np.float64)
