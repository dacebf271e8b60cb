"""p-values that hold: checked against their definition, by enumeration, and by simulation."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iirl_engine import conformal
from iirl_engine.conformal import best_of_p_values, discoveries, fewest, p_values, split
from iirl_engine.demonstrations import check, hold_out
from iirl_engine.records import Demonstrations
from iirl_engine.testing.strategies import demonstrations

LEVEL = 0.05


def test_the_examples_of_the_docstrings_run() -> None:
    assert doctest.testmod(conformal).failed == 0


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.lists(st.integers(-1, 10), min_size=1, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_a_p_value_counts_the_calibration_scores_at_least_as_high(
    calibration: list[int], scores: list[int]
) -> None:
    found = p_values(np.array(calibration, dtype=float), np.array(scores, dtype=float))
    for score, p in zip(scores, found, strict=True):
        assert p == (1 + sum(c >= score for c in calibration)) / (len(calibration) + 1)


def test_what_is_not_a_number_is_no_evidence() -> None:
    known, broken = np.arange(99.0), np.array([1.0, np.nan])
    assert p_values(known, np.array([np.nan])) == 1
    # A demonstration without a score could have been as extreme as any.
    assert p_values(broken, np.array([2.0])).tolist() == pytest.approx([2 / 3])
    assert p_values(np.array([]), np.array([7.0])) == 1


@pytest.mark.parametrize(("n", "m"), [(5, 1), (5, 2), (4, 4), (19, 2)])
def test_the_best_of_a_search_is_no_more_significant_than_the_best_of_as_many(
    n: int, m: int
) -> None:
    """Every way to deal n + m different scores into calibration and search is equally likely."""
    scores = range(n + m)
    drawn = []
    for searched in itertools.combinations(scores, m):
        calibration = np.array([s for s in scores if s not in searched], dtype=float)
        ordinary = p_values(calibration, np.array([float(max(searched))]))
        drawn.append(float(best_of_p_values(ordinary, m)[0]))
    values = np.array(drawn)
    for p in np.unique(values):
        # Exactly uniform for one state; nearly so for the best of more, while it is small.
        share = (values <= p + 1e-12).mean()
        assert share <= p + 1e-12
        assert m > 1 or share == pytest.approx(p)
        assert p > 0.2 or share > 0.9 * p


def test_episodes_count_alike_whatever_their_length() -> None:
    calibration, episode = np.array([1.0, 2.0, 3.0, 4.0, 9.0]), np.array([0, 0, 0, 0, 5])
    p = p_values(calibration, np.array([0.0, 3.0, 5.0, 10.0]), episode)
    assert p.tolist() == pytest.approx([1.0, 2.5 / 3, 2 / 3, 1 / 3])


def test_one_state_an_episode_is_no_episodes_at_all() -> None:
    rng = np.random.default_rng(0)
    calibration, scores = rng.normal(size=200), rng.normal(size=50)
    each = p_values(calibration, scores, np.arange(200))
    assert each == pytest.approx(p_values(calibration, scores), abs=1e-12)


def test_p_values_that_count_episodes_hold_where_those_that_count_states_do_not() -> None:
    """States of an episode are alike: a level of their own, and little around it."""
    rng = np.random.default_rng(1)
    by_episode, by_state = [], []
    for _ in range(400):
        levels = rng.normal(size=31).repeat(20)
        scores = levels + 0.1 * rng.normal(size=len(levels))
        fresh, calibration = scores[:1], scores[20:]
        by_episode.append(p_values(calibration, fresh, np.arange(30).repeat(20))[0])
        by_state.append(p_values(calibration, fresh)[0])
    smallest = 0.0334  # of 30 episodes
    error = 3 * np.sqrt(smallest / 400)
    assert np.mean(np.array(by_episode) <= smallest) <= smallest + error
    assert np.mean(np.array(by_state) <= 0.005) > 4 * 0.005
    for level in (0.1, 0.25, 0.5):
        assert np.mean(np.array(by_episode) <= level) <= level + 3 * np.sqrt(level / 400)


def test_more_looks_never_make_the_evidence_stronger() -> None:
    rng = np.random.default_rng(1)
    calibration, scores = rng.normal(size=100), rng.normal(size=50)
    ordinary = p_values(calibration, scores)
    weaker = [best_of_p_values(ordinary, m) for m in (1, 2, 8, 64)]
    assert np.array_equal(weaker[0], ordinary)
    assert all((a <= b + 1e-12).all() for a, b in itertools.pairwise(weaker))
    assert (weaker[-1] <= 1).all()


def false_and_true(rng: np.random.Generator, shift: float) -> tuple[float, float]:
    """Return the false discovery proportion and the power on 80 states, 20 of them strange."""
    calibration, fresh = rng.normal(size=200), rng.normal(size=80)
    strange = np.arange(80) < 20
    found = discoveries(p_values(calibration, fresh + shift * strange), LEVEL)
    return (found & ~strange).sum() / max(found.sum(), 1), found[strange].mean()


def test_discoveries_keep_their_rate_and_find_what_is_there() -> None:
    rng = np.random.default_rng(2)
    trials = np.array([false_and_true(rng, 4.0) for _ in range(400)])
    # 60 of 80 states are like the demonstrations: the expected rate is 0.75 * LEVEL = 0.0375.
    error = trials[:, 0].std() / 20
    assert trials[:, 0].mean() <= 0.75 * LEVEL + 3 * error
    assert trials[:, 0].mean() >= 0.75 * LEVEL / 2  # not by finding nothing
    assert trials[:, 1].mean() > 0.9


def test_where_nothing_is_strange_something_is_found_in_a_twentieth_of_the_trials() -> None:
    rng = np.random.default_rng(3)
    any_found = [
        discoveries(p_values(rng.normal(size=2000), rng.normal(size=80)), LEVEL).any()
        for _ in range(400)
    ]
    assert np.mean(any_found) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 400)
    assert np.mean(any_found) > LEVEL / 4


def test_a_search_makes_ordinary_p_values_lie_and_the_best_of_p_value_holds() -> None:
    rng = np.random.default_rng(4)
    looked_at, trials = 20, 400
    ordinary, right = [], []
    for _ in range(trials):
        calibration = rng.normal(size=500)
        best = rng.normal(size=looked_at).max(keepdims=True)
        ordinary.append(p_values(calibration, best)[0] <= LEVEL)
        right.append(best_of_p_values(p_values(calibration, best), looked_at)[0] <= LEVEL)
    assert np.mean(ordinary) > 0.5
    assert np.mean(right) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / trials)
    assert np.mean(right) > LEVEL / 4


def test_nothing_asked_nothing_found() -> None:
    assert discoveries(np.array([]), LEVEL).tolist() == []


def test_the_fewest_calibration_scores_reach_the_level() -> None:
    for level in (0.5, 0.1, 0.05, 0.01, 0.3):
        n = fewest(level)
        assert p_values(np.zeros(n), np.ones(1))[0] <= level * (1 + 1e-12)
        assert n == 0 or p_values(np.zeros(n - 1), np.ones(1))[0] > level


@given(data=demonstrations(), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_split_loses_and_doubles_no_state(data: Demonstrations, seed: int) -> None:
    halves = split(data, LEVEL, np.random.default_rng(seed))
    assert len(halves.fit) >= 1
    assert len(halves.calibration) <= len(data.states) / 2
    together = np.concatenate([halves.fit, halves.calibration])
    assert sorted(map(tuple, together)) == sorted(map(tuple, data.states))


def test_no_episode_is_on_both_sides_of_a_split() -> None:
    states = np.arange(200.0)[:, None]
    data = check(states, episode=np.arange(200) // 20)
    halves = split(data, LEVEL, np.random.default_rng(0))
    fit, calibration = (
        set((side[:, 0] // 20).tolist()) for side in (halves.fit, halves.calibration)
    )
    assert not fit & calibration
    assert fit | calibration == set(range(10))
    assert len(halves.calibration) >= 66


def test_what_is_held_out_calibrates_where_it_is_enough() -> None:
    data = check(np.random.default_rng(0).normal(size=(100, 2)))
    plenty = hold_out(data, 0.3, np.random.default_rng(1))
    halves = split(plenty, LEVEL, np.random.default_rng(0))
    assert halves.fit is plenty.states
    assert halves.calibration is plenty.held_out
    few = hold_out(data, 0.1, np.random.default_rng(1))
    assert len(split(few, LEVEL, np.random.default_rng(0)).calibration) == 30
    assert len(split(few, 0.2, np.random.default_rng(0)).calibration) == 10


def test_held_out_episodes_calibrate_where_they_are_enough() -> None:
    episode = np.arange(1000) // 10
    data = check(np.random.default_rng(0).normal(size=(1000, 2)), episode=episode)
    split_off = hold_out(data, 0.3, np.random.default_rng(1))
    halves = split(split_off, LEVEL, np.random.default_rng(0))
    assert halves.calibration is split_off.held_out
    assert halves.units == 30
    assert halves.episode is not None
    assert not np.isin(halves.episode, split_off.episode).any()
    # Too few episodes are held out, though many states: others are set aside.
    few = hold_out(data, 0.1, np.random.default_rng(1))
    halves = split(few, LEVEL, np.random.default_rng(0))
    assert halves.units == 30
    assert split(few, LEVEL, np.random.default_rng(0), by_episode=False).units == 100


def test_one_episode_is_one_unit() -> None:
    data = check(np.arange(100.0)[:, None], episode=np.zeros(100))
    assert split(data, LEVEL, np.random.default_rng(0)).units == 0
    assert split(data, LEVEL, np.random.default_rng(0), by_episode=False).units == 34
