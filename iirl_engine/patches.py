"""Exact sums of many local kernels: arrays say what they are, tensors where they are asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.support import power_of_two

Array = NDArray[np.float64]
Profile = Literal["wendland", "gaussian"]

_TILE = 2**22
# Where a Gaussian kernel is cut: exp(-r^2 / 2) < 1e-12 beyond.
_GAUSSIAN_REACH = 7.434


def kernel_sum(
    states: Tensor, centers: Array, radii: Array, strengths: Array, profile: Profile
) -> Tensor:
    """Return Σ_j strength_j φ(|s - centre_j| / radius_j) of each state, `[n]`, differentiable.

    Parameters
    ----------
    states
        `[n, d]` float64.
    centers, radii, strengths
        `[k, d]`, `[k]` > 0 and `[k]`, k >= 1.
    profile
        φ; see `kernel_profiles`.
    """
    weights = torch.tensor(strengths)
    rows = max(1, _TILE // len(strengths))
    return torch.cat(
        [
            kernel_profiles(part, centers, radii, profile) @ weights
            for part in torch.split(states, rows)
        ]
    )


def kernel_profiles(states: Tensor, centers: Array, radii: Array, profile: Profile) -> Tensor:
    """Return φ of each state and kernel, `[n, k]`, differentiable.

    `wendland`: φ(r) = (1 - r)^4 (4 r + 1) for r < 1, else 0. `gaussian`: φ(r) = exp(-r^2 / 2), cut
    where it falls below 1e-12.
    """
    unit = power_of_two(float(np.abs(centers).max()))
    apart = torch.cdist(
        states / unit,
        torch.from_numpy(centers / unit),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    r = apart / torch.from_numpy(radii / unit)
    if profile == "wendland":
        return (1 - r).clamp(min=0).pow(4) * (4 * r.clamp(max=1) + 1)
    return torch.where(r < _GAUSSIAN_REACH, torch.exp(-r.square() / 2), 0.0)
