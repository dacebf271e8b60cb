"""Which states are known to be good, and what they may lose."""

from __future__ import annotations

import functools

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.demonstrations import read_only
from iirl_engine.records import Demonstrations
from iirl_engine.reward import RewardModel
from iirl_engine.support import Support

Array = NDArray[np.float64]


@attrs.frozen(eq=False, slots=False)
class KnownGood:
    """States whose reward must be kept: expert states, held out or not, and the source's own.

    Parameters
    ----------
    states
        `[k, d]`, those that a norm forbids left out.
    original
        `[k]` their reward in release 0.
    held_out
        `[k]` whether each is a demonstration that the encoder has not seen.
    cap
        What each may lose since release 0, over all releases.
    forbidden
        How many more there are that a norm forbids.
    """

    states: Array
    original: Array
    held_out: NDArray[np.bool_]
    cap: float
    forbidden: int

    @classmethod
    def of(cls, data: Demonstrations, first: RewardModel, cap: float) -> KnownGood:
        """Return the known-good states of the demonstrations; `first` is release 0."""
        states = np.concatenate([data.states, data.held_out, data.known_good])
        place = np.arange(len(states)) - len(data.states)
        with torch.no_grad():
            allowed = (first.violation(torch.tensor(states)) <= 0).numpy()
        kept = read_only(states[allowed])
        return cls(
            states=kept,
            original=read_only(first(kept)) if len(kept) else np.empty(0),
            held_out=read_only(((place >= 0) & (place < len(data.held_out)))[allowed]),
            cap=cap,
            forbidden=int((~allowed).sum()),
        )

    @functools.cached_property
    def support(self) -> Support:
        """Distance to them."""
        return Support(self.states)
