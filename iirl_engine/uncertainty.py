"""How far a reward can be relied on at a state: prediction uncertainty and audit coverage.

Both are ranks, not guesses: a raw measure of the state is compared with the same measure of
states that were held out. A fresh state of the same kind exceeds 1 - alpha with a probability of at
most `alpha` (split conformal prediction; Vovk et al. 2005), whatever the raw measure is.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.support import Support

Array = NDArray[np.float64]

# States that one sample of an audit keeps at most.
_KEPT = 1024


class Rank:
    """Where a raw measure lies among calibration measures.

    Parameters
    ----------
    calibration
        `[m]` measures of held-out states; without any, everything ranks highest.
    """

    def __init__(self, calibration: Tensor) -> None:
        self._sorted = calibration.sort().values

    def __call__(self, raw: Tensor) -> Tensor:
        """Return the share of calibration measures below each of `raw [n]`, in [0, 1].

        It is 1 - p with the conformal p-value p = (1 + #{calibration >= raw}) / (m + 1), and 1
        where the measure is NaN or there is nothing to compare it with.
        """
        if len(self._sorted) == 0:
            return torch.ones_like(raw)
        below = torch.searchsorted(self._sorted, raw.contiguous())
        share = below.to(raw.dtype) / (len(self._sorted) + 1)
        return torch.where(torch.isnan(raw), 1.0, share)


class Coverage:
    """How thoroughly the neighbourhood of a state was probed by the audits.

    Every second probe is a landmark; the others are held out. The raw measure is the distance to
    the nearest landmark in units of the domain's widths.

    Parameters
    ----------
    probes
        `[p, d]` states that audits looked at.
    low, high
        `[d]` the domain.
    """

    def __init__(self, probes: Array, low: Array, high: Array) -> None:
        self._width = torch.from_numpy(high - low)
        landmarks, held_out = probes[::2], probes[1::2]
        self._landmarks = Support(landmarks / (high - low)) if len(held_out) else None
        if self._landmarks is None:
            return
        self._rank = Rank(self._distance(self._landmarks, torch.from_numpy(held_out)))

    def __call__(self, states: Tensor) -> Tensor:
        """Return the coverage `[n]`: 1 on a landmark, near 0 farther than any probe, 0 for NaN."""
        if self._landmarks is None:
            return torch.zeros(len(states), dtype=torch.float64)
        return 1 - self._rank(self._distance(self._landmarks, states))

    def _distance(self, landmarks: Support, states: Tensor) -> Tensor:
        return landmarks.distance(states / self._width)


class Sample:
    """An even sample of a stream of states, of bounded size and without any randomness.

    Every k-th state is kept; whenever too many are, every second is dropped and k doubles.
    """

    def __init__(self, width: int) -> None:
        self._parts = [np.empty((0, width))]
        self._count = 0
        self._step = 1
        self._seen = 0

    def add(self, states: Tensor) -> None:
        """Take in states `[n, d]`; those that hold NaN or Inf are no probes of anything."""
        given = states.detach().to("cpu", torch.float64).numpy()
        first = -self._seen % self._step
        self._seen += len(given)
        kept = given[first :: self._step]
        kept = kept[np.isfinite(kept).all(axis=1)]
        self._parts.append(kept)
        self._count += len(kept)
        while self._count > _KEPT:
            self._parts = [np.concatenate(self._parts)[::2]]
            self._count = len(self._parts[0])
            self._step *= 2

    def rows(self) -> Array:
        """Return the sample `[k, d]`."""
        return np.concatenate(self._parts)
