"""Distance to the expert states: exact at every width, scale and magnitude."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from iirl_engine.support import Support


@pytest.mark.parametrize("width", [1, 3, 15, 16, 40, 111])
def test_distance_is_that_of_the_nearest_state(width: int) -> None:
    generator = np.random.default_rng(width)
    expert = generator.normal(size=(500, width))
    expert[7] = expert[8]
    near = expert[:100] + 1e-3 * generator.normal(size=(100, width))
    far = 1e3 * generator.normal(size=(100, width))
    states = np.concatenate([expert[:50], near, far])
    apart = cdist(states, expert)
    distance, index = Support(expert).nearest(torch.tensor(states))
    assert distance.numpy() == pytest.approx(apart.min(axis=1), rel=1e-12)
    assert (distance[:50] == 0).all()
    assert apart[np.arange(250), index.numpy()] == pytest.approx(apart.min(axis=1), rel=1e-12)


@pytest.mark.parametrize("width", [3, 40])
def test_the_k_nearest_come_in_order(width: int) -> None:
    generator = np.random.default_rng(width)
    expert = generator.normal(size=(200, width))
    states = generator.normal(size=(50, width))
    distances, index = Support(expert).neighbours(torch.tensor(states), 5)
    ordered = np.sort(cdist(states, expert), axis=1)[:, :5]
    assert distances.numpy() == pytest.approx(ordered, rel=1e-12)
    assert index.shape == (50, 5)


@given(exponent=st.integers(-990, 990), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_distance_scales_with_the_unit_exactly(exponent: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    expert, states = generator.normal(size=(20, 3)), generator.normal(size=(10, 3))
    factor = 2.0**exponent
    plain = Support(expert).distance(torch.tensor(states))
    scaled = Support(expert * factor).distance(torch.tensor(states * factor))
    assert torch.equal(scaled, plain * factor)


def test_a_constant_feature_of_huge_magnitude_does_not_swamp_the_others() -> None:
    expert = np.column_stack([np.linspace(0, 1, 11), np.full(11, 1e300)])
    states = torch.tensor([[0.55, 1e300], [0.5, 2e300]], dtype=torch.float64)
    distance = Support(expert).distance(states)
    assert distance[0] == pytest.approx(0.05)
    assert distance[1] > 1e100


def test_spacing_is_the_distance_to_another_state() -> None:
    expert = np.array([[0.0], [1.0], [1.0], [4.0]])
    assert Support(expert).spacing.tolist() == [1.0, 0.0, 0.0, 3.0]
    assert Support(expert[:1]).spacing.tolist() == [np.inf]


def test_distance_can_be_differentiated() -> None:
    expert = np.random.default_rng(0).normal(size=(20, 3))
    support = Support(expert)
    states = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(support.distance, (states,))
    at_expert = torch.tensor(expert[:1], requires_grad=True)
    support.distance(at_expert).sum().backward()
    assert at_expert.grad is not None
    assert torch.isfinite(at_expert.grad).all()
