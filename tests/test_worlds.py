"""The known-answer worlds have the flaws that their docstrings state."""

from __future__ import annotations

import numpy as np
import pytest

from iirl_engine.testing import WORLDS, Mistaken, World

EVERY = (*WORLDS, Mistaken)


@pytest.mark.parametrize("world", EVERY)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_flawed_share_is_as_stated(world: type[World], width: int) -> None:
    known = world(width)
    states = np.random.default_rng(0).uniform(-1, 1, (400_000, width))
    assert known.is_flaw(states).mean() == pytest.approx(known.flawed_share(), abs=2e-3)


@pytest.mark.parametrize("world", EVERY)
def test_the_norms_of_the_reward_forbid_what_the_world_calls_forbidden(world: type[World]) -> None:
    import torch

    known = world(3)
    states = np.random.default_rng(1).uniform(-1, 1, (10_000, 3))
    forbidden = known.model.violation(torch.tensor(states)).numpy() > 0
    endorsed = known.model(states) > 0.01
    assert np.array_equal(known.is_flaw(states), forbidden & endorsed)
    assert not forbidden[np.abs(states).max(axis=1) <= 0.5].any()
