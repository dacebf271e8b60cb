"""Which way leads out of the support, in units of the domain's width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from iirl_engine.target import Target


def outward(states: Tensor, target: Target, before: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance `[n]` to the nearest expert state, and the direction away `[n, d]`.

    The distance is in the units of the states; the directions are unit vectors once each feature
    is divided by the domain's width. A state that is an expert state goes on as before.

    Parameters
    ----------
    states, before
        `[n, d]` states, and unit vectors in which they moved so far.
    """
    distance, nearest = target.demonstrations.support.nearest(states)
    expert = torch.tensor(target.demonstrations.states)[nearest]
    away = unit((states - expert) / (target.high - target.low))
    return distance, torch.where(away.any(dim=1, keepdim=True), away, before)


def unit(vectors: Tensor) -> Tensor:
    """Return vectors `[n, d]` of length 1; those of length 0 stay as they are."""
    # Scaled first, so that the tiny gradients of a nearly flat reward still have a direction.
    largest = vectors.abs().amax(dim=1, keepdim=True)
    scaled = torch.where(largest > 0, vectors / largest, 0.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return torch.where(length > 0, scaled / length, 0.0)
