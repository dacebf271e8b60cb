"""Whether what a strategy answered can be used: one number for each state, and finite."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


def one_each(values: Any, states: Tensor, whose: str) -> Tensor:
    """Return values that are a tensor `[n]`; anything else would be broadcast unseen.

    Raises
    ------
    ValueError
        When they are not one number for each of `states [n, d]`; `whose` says who gave them.
    """
    if not isinstance(values, Tensor) or values.shape != states.shape[:1]:
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{whose} must be a tensor [{len(states)}], got {got}")
    return values


def all_finite(numbers: Tensor) -> bool:
    """Say whether a sum shows that all numbers are finite; where it overflows, it does not.

    A sum takes one pass and one answer, and a NaN or Inf among the numbers never leaves it.
    """
    return math.isfinite(numbers.detach().sum())
