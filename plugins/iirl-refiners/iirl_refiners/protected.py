"""Which known-good states a refiner has to spare, and how much each of them may still lose."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Repair

Array = NDArray[np.float64]

# Rounding must not carry a known-good state over its cap.
_SLACK = 1e-6


def protected(repair: Repair, max_loss: float) -> tuple[Array, Array, Array]:
    """Return states `[k, d]` to spare, what each may still lose, and its base reward, `[k]` each.

    Losses count since release 0. A state that the reward does not endorse has nothing to lose.
    """
    now = repair.model(repair.known_good)
    allowed = np.maximum(max_loss - (repair.original - now) - _SLACK, 0.0)
    rows = now > repair.floor
    good = repair.known_good[rows]
    with torch.no_grad():
        base = repair.model.base(torch.tensor(good)).numpy()
    return good, allowed[rows], base
