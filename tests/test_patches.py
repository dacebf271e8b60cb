"""The sum of many local kernels: exact whatever is ruled out, and ruled out whatever can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch.utils._python_dispatch import TorchDispatchMode

from iirl_engine.balls import Balls
from iirl_engine.patches import REACH, LocalKernels, Profile

Array = np.ndarray


@st.composite
def worlds(draw: st.DrawFn) -> tuple[LocalKernels, Profile, Array, Array, Array, Array]:
    """Kernels in clusters or none, of radii of one size or of many, and states near and far."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 3, 9, 20, 50]))
    count = draw(st.sampled_from([1, 40, 129, 700]))
    profile: Profile = draw(st.sampled_from(["wendland", "gaussian"]))
    spread = draw(st.sampled_from([1e-6, 0.1, 1.0]))
    middles = generator.normal(size=(draw(st.integers(1, 4)), width))
    centers = middles[generator.integers(len(middles), size=count)]
    centers = centers + spread * generator.normal(size=centers.shape)
    typical = draw(st.sampled_from([0.1, 1.0, 10.0])) * spread * width**0.5 / REACH[profile]
    radii = typical * np.exp(draw(st.sampled_from([0.0, 2.0])) * generator.normal(size=count))
    centers[:2] *= draw(st.sampled_from([1.0, 1e6]))
    strengths = generator.normal(size=count)
    near = centers[generator.integers(count, size=60)]
    states = np.concatenate(
        [
            near,
            near + typical / width**0.5 * generator.normal(size=near.shape),
            near + 3 * typical * generator.normal(size=near.shape),
            generator.normal(size=(60, width)),
            1e300 * generator.normal(size=(5, width)),
        ]
    )
    local = LocalKernels(centers, radii, strengths, profile)
    return local, profile, centers, radii, strengths, states


def formula(profile: Profile, centers: Array, radii: Array, states: Array) -> Array:
    r = cdist(states, centers) / radii
    if profile == "gaussian":
        return np.exp(-(np.minimum(r, 1e3) ** 2) / 2)
    return np.where(r < 1, (1 - np.minimum(r, 1)) ** 4 * (4 * r + 1), 0.0)


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_the_sum_is_exact(world: Any) -> None:
    local, profile, centers, radii, strengths, states = world
    with np.errstate(over="ignore", invalid="ignore"):
        expected = formula(profile, centers, radii, states[:-5]) @ strengths
    found = local.sum(torch.from_numpy(states)).numpy()
    # A coordinate is known to 1e-16 of the largest, and 2 is about the steepest slope.
    rounding = 1e-14 * np.abs(centers).max() / radii.min()
    assert found[:-5] == pytest.approx(expected, abs=1e-9 + rounding * np.abs(strengths).sum())
    assert not found[-5:].any()


@settings(max_examples=30, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_a_state_is_worth_the_same_in_any_company(world: Any, random: Any) -> None:
    local, *_, states = world
    asked = torch.from_numpy(states)
    value, gradient = local.sum_and_gradient(asked, True)
    order = torch.tensor(random.sample(range(len(asked)), len(asked)))
    size = random.choice([1, 7, 150])
    for part in torch.split(order[: 40 * size], size):
        again = local.sum_and_gradient(asked[part], True)
        assert torch.equal(again[0], value[part])
        assert torch.equal(again[1], gradient[part])


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_the_gradient_is_that_of_the_formula(world: Any) -> None:
    local, _, centers, radii, strengths, states = world
    asked = torch.from_numpy(states[:-5]).requires_grad_()
    (found,) = torch.autograd.grad(local.sum(asked).sum(), asked)
    (expected,) = torch.autograd.grad((local.values(asked) @ torch.tensor(strengths)).sum(), asked)
    rounding = 1e-14 * np.abs(centers).max() / radii.min() + 1e-12
    scale = np.abs(strengths / radii).sum()
    assert found.numpy() == pytest.approx(expected.numpy(), abs=rounding * scale)


@pytest.mark.parametrize("profile", ["wendland", "gaussian"])
@pytest.mark.parametrize("count", [20, 2000])
def test_the_gradient_is_that_of_the_sum(profile: Profile, count: int) -> None:
    generator = np.random.default_rng(count)
    centers = generator.normal(size=(count, 4))
    radii, strengths = generator.uniform(0.2, 2, count), generator.normal(size=count)
    local = LocalKernels(centers, radii, strengths, profile)
    states = torch.tensor(generator.normal(size=(8, 4)), requires_grad=True)
    assert torch.autograd.gradcheck(local.sum, (states,))


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_no_ball_that_holds_a_state_is_ruled_out(world: Any) -> None:
    _, profile, centers, radii, _, states = world
    reach = REACH[profile] * radii
    balls = Balls(centers, reach)
    found = np.zeros((len(states), len(centers)), dtype=np.bool_)
    for first, rows, near in balls.candidates(torch.from_numpy(states)):
        found[rows.numpy()[:, None], balls.order[first : first + near.shape[1]]] |= near
    with np.errstate(over="ignore", invalid="ignore"):
        holds = cdist(states, centers) < reach
    assert found[holds].all()


@pytest.mark.parametrize("width", [3, 16, 111])
def test_nearly_all_that_can_be_ruled_out_is(width: int) -> None:
    generator = np.random.default_rng(width)
    sheet = generator.normal(size=(3, width))

    def drawn(count: int) -> Array:
        on = generator.uniform(-1, 1, (count, 3)) @ sheet / width**0.5
        return on + 0.01 * generator.normal(size=(count, width)) / width**0.5

    centers, states = drawn(4000), drawn(1000)
    apart = cdist(states, centers)
    radius = np.quantile(apart, 0.002)
    balls = Balls(centers, np.full(4000, radius))
    found = list(balls.candidates(torch.from_numpy(states)))
    share = sum(np.count_nonzero(near) for *_, near in found) / apart.size
    looked_at = sum(near.size for *_, near in found) / apart.size
    assert np.mean(apart < radius) <= share < 0.003
    assert looked_at < 0.3


class Sizes(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("radius", [0.1, 100.0])
def test_memory_is_bounded_by_the_chunk(radius: float) -> None:
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(3000, 8))
    local = LocalKernels(centers, np.full(3000, radius), np.full(3000, 0.1), "wendland")
    states = torch.from_numpy(generator.normal(size=(20_000, 8)))
    with Sizes() as sizes:
        local.sum_and_gradient(states, True)
    assert states.nbytes <= sizes.largest <= 2**24  # all pairs are 480 MB


@pytest.mark.parametrize("count", [1, 500])
def test_an_unknown_state_has_an_unknown_sum(count: int) -> None:
    centers = np.random.default_rng(0).normal(size=(count, 3))
    local = LocalKernels(centers, np.ones(count), np.ones(count), "wendland")
    states = torch.zeros(40, 3, dtype=torch.float64)
    states[5, 1], states[6, 2] = torch.nan, torch.inf
    value, gradient = local.sum_and_gradient(states, True)
    assert gradient is not None
    assert torch.equal(value.isnan().nonzero()[:, 0], torch.tensor([5]))
    assert value[6] == 0
    assert gradient[5].isnan().all()


def test_no_kernels_sum_to_nothing() -> None:
    local = LocalKernels(np.zeros((0, 3)), np.zeros(0), np.zeros(0), "wendland")
    states = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    local.sum(states).sum().backward()
    assert states.grad is not None
    assert not states.grad.any()
