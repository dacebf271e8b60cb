"""Sources: the same demonstrations each time, finite and closed to writing."""

from __future__ import annotations

import numpy as np

from iirl_engine.records import Demonstrations
from iirl_engine.testing.kit import Subject, check, require


@check("source")
def the_same_demonstrations_each_time(subject: Subject) -> None:
    """One seed gives one fingerprint."""
    first, second = (subject.build().load(subject.context(0, 0)) for _ in range(2))
    require(isinstance(first, Demonstrations), f"it loads {type(first).__name__}")
    require(first.fingerprint == second.fingerprint, "two loads of one seed differ")


@check("source")
def states_are_finite_and_closed(subject: Subject) -> None:
    """States are float64 `[n, d]`, finite and read-only: made by `demonstrations.check`."""
    states = subject.build().load(subject.context(0, 0)).states
    require(states.ndim == 2 and states.size > 0, f"states have the shape {list(states.shape)}")
    require(states.dtype == np.float64, f"states are {states.dtype}")
    require(bool(np.isfinite(states).all()), "states hold NaN or Inf")
    require(not states.flags.writeable, "states can be written")
