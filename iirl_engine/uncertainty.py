"""How far a reward can be relied on at a state: prediction uncertainty and audit coverage.

Both are ranks, not guesses: a raw measure of the state is compared with the same measure of
states that were held out. A fresh state of the same kind exceeds 1 - alpha with a probability of at
most `alpha` (split conformal prediction; Vovk et al. 2005), whatever the raw measure is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import api
from iirl_engine.answers import all_finite, one_each
from iirl_engine.records import Demonstrations
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


class Doubt:
    """How little is known of a state, as a rank among held-out demonstrations.

    The raw measure is the greater of the distance to support and the encoder's own, each in units
    of what is usual among the expert states. The distance has its say always: an encoder may be
    sure of itself where it has seen nothing.

    Parameters
    ----------
    encoder
        Fitted.
    data
        What it was fitted on. Without held-out demonstrations each is compared with the others.
    """

    def __init__(self, encoder: api.Encoder[Any], data: Demonstrations) -> None:
        self._encoder, self._support = encoder, data.support
        asked = encoder.uncertainty(torch.tensor(data.states))
        smallest = torch.finfo(torch.float64).tiny
        self._apart = data.support.spacing.median().clamp(min=smallest).nan_to_num(posinf=1.0)
        self._own = None if asked is None else asked.mean().clamp(min=smallest)
        if len(data.held_out):
            self._rank = Rank(self._raw(torch.tensor(data.held_out)))
        else:
            self._rank = Rank(self._raw(torch.tensor(data.states), data.support.spacing))

    def __call__(self, states: Tensor) -> Tensor:
        """Return the share `[n]` of demonstrations that are less doubtful than `states [n, d]`."""
        return self._rank(self._raw(states))

    def _raw(self, states: Tensor, distance: Tensor | None = None) -> Tensor:
        distance = self._support.distance(states) if distance is None else distance
        raw = distance / self._apart
        asked = self._encoder.uncertainty(states)
        if asked is None or self._own is None:
            return raw
        asked = one_each(asked, states, "the encoder's uncertainty")
        return torch.maximum(raw, (asked / self._own).nan_to_num(nan=torch.inf))


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
        self._parts = [torch.empty((0, width), dtype=torch.float64)]
        self._count = 0
        self._step = 1
        self._seen = 0

    def add(self, states: Tensor) -> None:
        """Take in states `[n, d]`; those that hold NaN or Inf are no probes of anything."""
        first = -self._seen % self._step
        self._seen += len(states)
        if first >= len(states):
            return
        kept = states.detach()[first :: self._step].to("cpu", torch.float64, copy=True)
        if not all_finite(kept):
            kept = kept[torch.isfinite(kept).all(dim=1)]
        self._parts.append(kept)
        self._count += len(kept)
        while self._count > _KEPT:
            self._parts = [torch.cat(self._parts)[::2]]
            self._count = len(self._parts[0])
            self._step *= 2

    def rows(self) -> Array:
        """Return the sample `[k, d]`."""
        return torch.cat(self._parts).numpy()
