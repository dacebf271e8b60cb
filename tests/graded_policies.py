"""Policies whose order is known, and worlds whose reward is easy to compute by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from iirl_engine.evaluation import (
    Policy,
)
from iirl_engine.testing import World


class Half(World):
    """The reward is the first feature, 0 to 1, flat below 0: easy to compute by hand."""

    def reward(self, states: torch.Tensor) -> torch.Tensor:
        return states[:, 0].clamp(0, 1)

    def flawed_share(self) -> float:
        raise NotImplementedError


class Diagonal(Half):
    """The reward falls with the difference of the two features."""

    def reward(self, states: torch.Tensor) -> torch.Tensor:
        return (1 - 2 * (states[:, 0] - states[:, 1]).abs()).clamp(min=0)


def policy(name: str, first: Any, **arrays: Any) -> Policy:
    """Return a policy whose states have this first feature, and 0 as the second."""
    states = np.stack([np.asarray(first, float), np.zeros(len(first))], axis=1)
    return Policy.from_arrays(name, {"states": states} | arrays)


def graded() -> list[Policy]:
    """Four policies of two episodes; the reward orders them all but `random`."""
    rng = np.random.default_rng(0)
    found = []
    for name, level, true in (
        ("best", 0.8, 9.0),
        ("good", 0.6, 6.0),
        ("poor", 0.3, 2.0),
        ("random", 0.4, 0.0),
    ):
        first = level + rng.uniform(-0.1, 0.1, 10)
        found.append(policy(name, first, ep_len=[4, 6], ep_ret=[true - 1, true + 1]))
    return found
