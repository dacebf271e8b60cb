"""Distance to the expert states: exact at every width, scale and magnitude."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from iirl_engine import neighbours, products
from iirl_engine.cells import Cells
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


def test_gap_is_the_largest_distance_to_another_state() -> None:
    assert Support(np.array([[0.0], [1.0], [1.0], [4.0]])).gap == 3.0
    assert Support(np.array([[2.0]])).gap == 0.0


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


def worlds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and queries, one in two of them awkward in some way."""
    generator = np.random.default_rng(seed)
    width = int(generator.choice([1, 2, 5, 6, 9, 20, 40]))
    count = int(generator.choice([1, 3, 30, 400, 1000, 3000]))
    points = generator.normal(size=(count, width))
    if seed % 2:
        points = np.round(points * generator.choice([1, 4]))  # a lattice: ties and duplicates
    if generator.random() < 0.3:
        points[: count // 2] = points[0]
    if generator.random() < 0.3:
        points[:, 0] = generator.choice([0.0, 7.0, 1e12])
    if generator.random() < 0.3:
        points[-1] += generator.choice([1e4, 1e9])
    some = points[generator.integers(0, count, 20)]
    away = generator.normal(size=(20, width))
    queries = np.concatenate(
        [some, some + 1e-7 * away, np.round(away), 1e3 * away, 1e12 * away, 1e40 * away]
    )
    scale = 2.0 ** int(generator.choice([0, 0, -300, 300]))
    return points * scale, queries * scale


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), many=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_nearest_are_those_of_a_brute_force_in_row_order(seed: int, k: int, many: bool) -> None:
    points, queries = worlds(seed)
    k = min(k, len(points))
    support = Support(points)
    with pytest.MonkeyPatch.context() as patch:
        if many:  # as though there were
            patch.setattr(neighbours, "_MANY", 1)
            patch.setattr(neighbours, "_LARGE", 1)
        distance, index = support.neighbours(torch.tensor(queries), k)
    to, asked = support._points, support._scaled(torch.tensor(queries))
    apart = torch.stack([torch.linalg.vector_norm(row - to, dim=1) for row in asked])
    expected = apart.sort(dim=1, stable=True)
    assert torch.equal(distance, expected.values[:, :k] * support._unit)
    assert torch.equal(index, expected.indices[:, :k])


@pytest.mark.parametrize("k", [1, 10])
def test_cells_name_every_candidate_and_few_others(k: int) -> None:
    generator = np.random.default_rng(k)
    flat, noise = generator.uniform(-1, 1, (5000, 2)), generator.normal(0, 0.01, (5000, 20))
    points = flat @ generator.normal(size=(2, 20)) + noise
    points[-100:] = points[:100]  # some are there twice
    queries = points[1000:1500] + generator.normal(0, 0.1, (500, 20))
    settled, rows, numbers = Cells(torch.tensor(points)).near(torch.tensor(queries), k)
    assert settled.float().mean() > 0.9
    assert len(rows) < 0.02 * settled.sum() * len(points)
    named = set(zip(rows.tolist(), numbers.tolist(), strict=True))
    assert len(named) == len(rows)
    apart = cdist(queries, points)
    nearest = apart <= np.sort(apart, axis=1)[:, k - 1 : k]
    wanted = zip(*np.nonzero(nearest & settled.numpy()[:, None]), strict=True)
    assert {(int(row), int(number)) for row, number in wanted} <= named


def test_cells_settle_nothing_where_they_rule_out_nothing() -> None:
    points = torch.tensor(np.random.default_rng(0).normal(size=(3000, 40)))
    settled, rows, numbers = Cells(points).near(points + 1, 1)
    assert not settled.any()
    assert len(rows) == len(numbers) == 0
    same = Cells(torch.zeros(3000, 8, dtype=torch.float64)).near(points[:, :8], 1)
    assert not same[0].any()


@pytest.fixture
def without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_onednn", None)


@pytest.fixture
def rounding_more() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("torch_is", ["as_usual", "without_onednn", "rounding_more"])
def test_the_answer_does_not_depend_on_how_torch_multiplies(
    torch_is: str, request: pytest.FixtureRequest
) -> None:
    generator = np.random.default_rng(0)
    points, queries = generator.normal(size=(5000, 24)), generator.normal(size=(700, 24))
    if torch_is != "as_usual":
        request.getfixturevalue(torch_is)
    found = Support(points).neighbours(torch.tensor(queries), 10)[1].numpy()
    assert (found == cdist(queries, points).argsort(axis=1)[:, :10]).all()


def test_the_answer_depends_neither_on_batch_nor_on_threads() -> None:
    generator = np.random.default_rng(0)
    points = np.round(generator.normal(size=(3000, 12)))
    queries = torch.tensor(np.round(generator.normal(size=(600, 12))))
    together = Support(points).neighbours(queries, 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        parts = [Support(points).neighbours(part, 5) for part in queries.split(7)]
    finally:
        torch.set_num_threads(threads)
    for whole, some in zip(together, zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(some))


def test_nobody_is_asked_of_nobody() -> None:
    for width in (3, 30):
        support = Support(np.ones((2000, width)))
        assert support.distance(torch.empty(0, width, dtype=torch.float64)).shape == (0,)
