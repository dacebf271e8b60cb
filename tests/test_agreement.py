"""Measures of agreement agree with answers known by other means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from iirl_engine.errors import UsageError
from iirl_engine.evaluation import (
    Transitions,
    auroc,
    epic,
    pearson_distance,
    spearman,
)

Array = np.ndarray[Any, np.dtype[np.float64]]


# Agreement of two columns


def scores(least: int = 1) -> st.SearchStrategy[list[float]]:
    return st.lists(st.integers(-5, 5).map(float), min_size=least, max_size=20)


@given(scores(), scores())
def test_auroc_is_the_share_of_pairs_in_order(above: list[float], below: list[float]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in above for b in below]
    assert auroc(above, below) == pytest.approx(np.mean(pairs))


def test_auroc_of_nothing_is_none() -> None:
    assert auroc([], [1.0]) is None
    assert auroc([1.0], []) is None


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20))
def test_spearman_and_pearson_distance_agree_with_scipy(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows, float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert spearman(a, b) is None
        assert pearson_distance(a, b) is None
        return
    assert spearman(a, b) == pytest.approx(stats.pearsonr(*map(stats.rankdata, (a, b)))[0])
    r = stats.pearsonr(a, b)[0]
    assert pearson_distance(a, b) == pytest.approx(np.sqrt((1 - r) / 2), abs=1e-7)


def test_a_column_that_differs_by_rounding_alone_is_constant() -> None:
    flat = 0.3 + np.array([0, 1e-16, 0, 1e-16])
    assert spearman(flat, [1, 2, 3, 4]) is None
    assert pearson_distance(flat, [1, 2, 3, 4]) is None


def test_pearson_distance_knows_no_scale_and_does_not_round_away_small_ones() -> None:
    a = np.random.default_rng(0).normal(size=50)
    assert pearson_distance(a, 1e-200 * a) == pytest.approx(0, abs=1e-15)
    assert pearson_distance(a, 3 - 7 * a) == pytest.approx(1)
    nudged = a + 1e-10 * np.random.default_rng(1).normal(size=50)
    assert 1e-12 < (pearson_distance(a, nudged) or 0) < 1e-9


def test_weights_count_rows_as_though_repeated() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12))
    times = rng.integers(1, 5, 12)
    repeated = pearson_distance(np.repeat(a, times), np.repeat(b, times))
    assert pearson_distance(a, b, weights=times) == pytest.approx(repeated)


# EPIC over explicit transitions


def transitions(rows: int = 200) -> Transitions:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(rows, 2))
    actions = rng.normal(size=(rows, 1))
    return Transitions(states, actions, states + 0.3 * actions + 0.1 * rng.normal(size=(rows, 2)))


def true(s: Array, a: Array, after: Array) -> Array:
    return np.asarray(after[:, 0] - 0.1 * a[:, 0] ** 2)


def potential(s: Array) -> Array:
    return np.asarray(5 * np.sin(3 * s[:, 0]) + s[:, 1] ** 2)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_epic_does_not_see_potential_shaping_scale_or_shift(gamma: float) -> None:
    def shaped(s: Array, a: Array, after: Array) -> Array:
        return 2 * true(s, a, after) + gamma * potential(after) - potential(s) + 3

    data = transitions()
    assert epic(true, shaped, data, gamma=gamma) == pytest.approx(0, abs=1e-12)
    # Without the canonical form the two are far apart.
    plain = pearson_distance(true(*data), shaped(*data))
    assert plain is not None
    assert plain > 0.2


def test_epic_sees_what_is_no_shaping() -> None:
    def of_state(s: Array, a: Array, after: Array) -> Array:
        return true(s, a, after) + 5 * np.sin(3 * after[:, 0])

    data = transitions()
    found = epic(true, of_state, data, gamma=0.9)
    assert found is not None
    assert found > 0.1
    assert epic(true, lambda *t: -true(*t), data, gamma=0.9) == pytest.approx(1)
    assert epic(of_state, true, data, gamma=0.9) == pytest.approx(found)


def test_epic_draws_by_its_seed() -> None:
    def mixed(s: Array, a: Array, after: Array) -> Array:
        return np.asarray(s[:, 0] * after[:, 1] + a[:, 0])

    one, same, other = (epic(true, mixed, transitions(), gamma=0.9, seed=i) for i in (0, 0, 1))
    assert one == same != other


def test_epic_reduces_to_pearson_for_rewards_of_the_successor() -> None:
    """C(R)(s, a, s') = R(s') + const, as the expectations cancel the rest."""

    def one(s: Array, a: Array, after: Array) -> Array:
        return after[:, 0] ** 2

    def other(s: Array, a: Array, after: Array) -> Array:
        return np.tanh(after[:, 0] + after[:, 1])

    data = transitions()
    plain = pearson_distance(one(*data), other(*data))
    assert epic(one, other, data, gamma=0.9) == pytest.approx(plain)


def test_epic_matches_a_reference_computed_over_the_whole_product() -> None:
    """Against the definition with every expectation as a full sum, on a small finite world."""
    rng = np.random.default_rng(3)
    table_a, table_b = rng.normal(size=(2, 4, 2, 4))

    def tabular(table: Array) -> Any:
        return lambda s, a, after: table[
            s[:, 0].astype(int), a[:, 0].astype(int), after[:, 0].astype(int)
        ]

    grid = np.array([(s, a, n) for s in range(4) for a in range(2) for n in range(4)], float)
    data = Transitions(grid[:, :1], grid[:, 1:2], grid[:, 2:])

    def exact(table: Array) -> Array:
        mean = table.mean(axis=(1, 2))
        shift = 0.9 * mean[None, None, :] - mean[:, None, None] - 0.9 * table.mean()
        return np.asarray((table + shift).reshape(-1))

    found = epic(tabular(table_a), tabular(table_b), data, gamma=0.9, samples=20_000)
    assert found == pytest.approx(pearson_distance(exact(table_a), exact(table_b)), abs=0.01)


def test_epic_refuses_what_does_not_fit() -> None:
    data = transitions(5)
    with pytest.raises(UsageError, match="transitions"):
        epic(true, true, data._replace(actions=data.actions[:4]), gamma=0.9)
    with pytest.raises(UsageError, match="gamma"):
        epic(true, true, data, gamma=1.1)
