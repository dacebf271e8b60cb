"""An evaluation's measures agree with answers known by other means, and None is never a number."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from iirl_engine.errors import DataError, UsageError
from iirl_engine.evaluation import (
    Policy,
    Transitions,
    auroc,
    epic,
    evaluate,
    pearson_distance,
    read_policies,
    spearman,
)
from iirl_engine.evaluation.page import render as render_page
from iirl_engine.evaluation.saturation import saturation
from iirl_engine.evaluation.text import render as render_text
from iirl_engine.evaluation.text import verdict
from iirl_engine.testing import World
from iirl_engine.testing.worlds import Bowl, Flat

Array = np.ndarray[Any, np.dtype[np.float64]]
HOSTILE = "<script>alert(1)</script>"


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


# Whole evaluations


def test_policies_are_ordered_beside_their_true_return() -> None:
    policies = graded()
    found = evaluate(Half().model, policies)
    assert [row.name for row in found.policies] == ["best", "good", "poor", "random"]
    assert [row.competent for row in found.policies] == [True, True, False, False]
    assert [row.trivial for row in found.policies] == [False, False, False, True]
    for row, given_ in zip(found.policies, policies, strict=True):
        assert row.learned_reward == pytest.approx(given_.states[:, 0].mean())
        assert row.learned_return == pytest.approx(given_.states[:, 0].sum() / 2)
        assert row.true_return == pytest.approx(given_.true_return)
    expected = stats.spearmanr(
        [row.learned_reward for row in found.policies], [4, 3, 2, 1]
    ).statistic
    assert found.ordering.by_mean_reward == pytest.approx(expected)
    assert found.ordering.by_mean_reward == pytest.approx(0.8)
    assert found.ordering.policies == 4


def test_return_and_mean_reward_order_differently_where_episodes_differ_in_length() -> None:
    """A policy that lives long on little reward against one that dies soon after much."""
    long = policy("long", np.full(20, 0.2), ep_len=[20], ep_ret=[20.0])
    short = policy("short", [0.9, 0.9], ep_len=[2], ep_ret=[2.0])
    found = evaluate(Half().model, [long, short])
    assert found.ordering.by_return == pytest.approx(1)
    assert found.ordering.by_mean_reward == pytest.approx(-1)


def test_epic_is_zero_for_the_true_reward_and_balanced_by_policy() -> None:
    same = [
        policy(p.name, p.states[:, 0], rew=5 * p.states[:, 0] - 2, ep_len=[4, 6]) for p in graded()
    ]
    found = evaluate(Half().model, same)
    assert found.epic.pooled == pytest.approx(0, abs=1e-12)
    assert found.epic.balanced == pytest.approx(0, abs=1e-12)
    assert found.epic.states == 40
    rng = np.random.default_rng(0)
    long, short = rng.uniform(size=900), rng.uniform(size=10)
    uneven = [policy("long", long, rew=-long), policy("short", short, rew=short)]
    found = evaluate(Half().model, uneven)
    assert found.epic.pooled is not None
    assert found.epic.balanced is not None
    assert found.epic.balanced < found.epic.pooled - 0.1


def test_standing_still_is_found_out() -> None:
    """Starts at 0.7 earn more than the good policy does on its way."""
    first = [0.7, 0.5, 0.5]
    competent = policy("good", first, ep_len=[3], ep_ret=[5.0])
    poor = policy("poor", [0.7, 0.1, 0.1], ep_len=[3], ep_ret=[0.0])
    trivial = evaluate(Half().model, [competent, poor]).trivial
    assert trivial.policies[0].name == "frozen start"
    assert trivial.policies[0].reward == pytest.approx(0.7)
    assert trivial.below_competent is False
    assert trivial.margin == pytest.approx(np.mean(first) - 0.7)


def test_trivial_policies_below_every_competent_one_pass() -> None:
    found = evaluate(Half().model, graded()).trivial
    names = ["frozen start", "constant mean state", "shuffled features", "random"]
    assert [row.name for row in found.policies] == names
    # The starts are among the graded levels; without them the best trivial one is `random`.
    still = [
        attrs.evolve(p, states=np.r_[[[0.0, 0.0]], p.states[1:]], episode=None) for p in graded()
    ]
    still = [attrs.evolve(p, episode=np.zeros(10, int)) for p in still]
    found = evaluate(Half().model, still).trivial
    assert found.below_competent is True
    random, good = still[3].states[:, 0].mean(), still[1].states[:, 0].mean()
    assert found.margin == pytest.approx(good - random)


def test_a_trivial_policy_that_is_competent_does_not_count() -> None:
    zero = policy("zero-action", [0.9, 0.9], ep_len=[2], ep_ret=[10.0])
    poor = policy("poor", [0.0, 0.1], ep_len=[2], ep_ret=[0.0])
    found = evaluate(Half().model, [zero, poor])
    assert "zero-action" not in [row.name for row in found.trivial.policies]
    assert any("zero-action" in note for note in found.notes)


def test_shuffled_features_keep_columns_and_break_rows() -> None:
    """A reward of the first feature alone cannot tell shuffled demonstrations from real ones."""
    found = evaluate(Half().model, graded())
    shuffled = next(r for r in found.trivial.policies if r.name == "shuffled features")
    assert shuffled.reward == pytest.approx(found.demonstrations.mean_reward)
    assert shuffled.relative == pytest.approx(1)
    model = Diagonal().model
    line = np.repeat(np.linspace(-0.4, 0.4, 9)[:, None], 2, axis=1)
    model = model.evolve(demonstrations=attrs.evolve(model.demonstrations, states=line))
    found = evaluate(model, graded())
    shuffled = next(r for r in found.trivial.policies if r.name == "shuffled features")
    assert found.demonstrations.mean_reward == 1
    assert shuffled.reward < 0.8


def test_saturation_is_the_flat_share_of_the_way() -> None:
    """The reward is flat below 0, and of the experts -0.1, 0 and 0.1 one is below, one above."""
    model = Half(1).model

    def share(start: float) -> float | None:
        generator = np.random.default_rng(0)
        return saturation(model, np.array([[start]]), generator=generator)

    # Of the 16 places the last is beyond 0, for one expert in three.
    assert share(1.0) == pytest.approx(1 / 48, abs=0.01)
    assert share(-1.0) == pytest.approx(47 / 48, abs=0.01)
    assert saturation(Flat(2).model, np.ones((1, 2)), generator=np.random.default_rng(0)) == 1.0
    far = saturation(Bowl(2).model, np.array([[0.45, 0.0]]), generator=np.random.default_rng(0))
    assert far == 0.0


def test_slope_is_in_units_of_the_demonstrations() -> None:
    """Experts that spread a thousandth as much make the same slope count as flat."""
    data = Half(1).model.demonstrations
    narrow = attrs.evolve(data, states=data.states / 1000)
    model = Half(1).model.evolve(demonstrations=narrow)
    starts = np.array([[1.0]])
    assert saturation(model, starts, generator=np.random.default_rng(0)) == 1.0


def test_a_reward_without_gradient_is_told_apart_from_a_flat_one() -> None:
    class Steps(Half):
        def reward(self, states: torch.Tensor) -> torch.Tensor:
            return super().reward(states).detach()

    found = evaluate(Steps().model, graded())
    assert found.saturation is None
    assert any("no gradient" in note for note in found.notes)


def test_labels_and_values_stand_beside_the_reward() -> None:
    first = np.array([0.1, 0.2, 0.3, 0.4])
    one = policy("one", first, label=[1, 1, 0, 0], value=first**3)
    two = policy("two", first + 0.5, label=[0, 0, 0, 0], value=-first)
    found = evaluate(Half().model, [one, two])
    rows = {row.name: row for row in found.policies}
    assert rows["one"].label_auroc == 1.0
    assert rows["two"].label_auroc is None
    assert rows["one"].value_spearman == pytest.approx(1)
    assert rows["two"].value_spearman == pytest.approx(-1)
    assert found.pooled.label_auroc == 1.0
    both = np.concatenate([first**3, -first])
    expected = stats.spearmanr(np.concatenate([first, first + 0.5]), both).statistic
    assert found.pooled.value_spearman == pytest.approx(expected)
    assert "all states have the same label: two" in found.notes


def test_held_out_demonstrations_are_what_policies_are_compared_with() -> None:
    model = Half().model
    fresh = attrs.evolve(model.demonstrations, held_out=np.array([[0.5, 0.0], [0.0, 0.0]]))
    found = evaluate(model.evolve(demonstrations=fresh), [policy("p", [0.3, 0.3])])
    assert found.demonstrations.held_out is True
    assert found.demonstrations.mean_reward == pytest.approx(0.25)
    assert found.policies[0].auroc == pytest.approx(0.5)
    assert found.rejected.held_out == pytest.approx(0.5)
    without = evaluate(model, [policy("p", [0.3, 0.3])])
    assert without.demonstrations.held_out is False
    assert without.rejected.held_out is None


def test_rejection_is_of_the_competent_policy_that_loses_most() -> None:
    one = policy("one", [0.5, 0.0, 0.5, 0.5], ep_len=[4], ep_ret=[9.0])
    two = policy("two", [0.5, 0.0, 0.005, 0.5], ep_len=[4], ep_ret=[8.0])
    poor = policy("poor", [0.0, 0.0], ep_len=[2], ep_ret=[0.0])
    found = evaluate(Half().model, [one, two, poor], floor=0.01)
    assert found.rejected.competent == pytest.approx(0.5)
    assert evaluate(Half().model, [one, two, poor], floor=0.001).rejected.competent == 0.25


def test_states_alone_leave_everything_else_none_with_notes() -> None:
    found = evaluate(Half().model, [policy("p", [0.1, 0.2]), policy("q", [0.3, 0.4])])
    body = found.to_json()
    assert body["ordering"] == {"policies": 0, "by_return": None, "by_mean_reward": None}
    assert body["epic"] == {"states": 0, "pooled": None, "balanced": None}
    assert body["saturation"] is None
    assert body["trivial"]["below_competent"] is None
    assert body["rejected"] == {"held_out": None, "competent": None}
    for word in ("true returns", "true rewards", "episodes", "labels", "exact values", "start"):
        assert any(word in note for note in found.notes), word
    json.dumps(body, allow_nan=False)


def test_a_constant_reward_is_undefined_and_no_endorsement() -> None:
    policies = [
        attrs.evolve(p, reward=np.random.default_rng(i).normal(size=10))
        for i, p in enumerate(graded())
    ]
    found = evaluate(Flat().model, policies)
    assert found.ordering.by_mean_reward is None
    assert found.epic.pooled is None
    assert found.saturation == 1.0
    assert found.trivial.below_competent is False
    assert all(row.auroc == 0.5 for row in found.policies)
    assert sum("differ" in note for note in found.notes) >= 2
    json.dumps(found.to_json(), allow_nan=False)


def test_a_reward_of_nothing_has_no_shares() -> None:
    class Nothing(Half):
        def reward(self, states: torch.Tensor) -> torch.Tensor:
            return 0 * states.sum(dim=1)

    found = evaluate(Nothing().model, graded())
    assert {row.relative for row in found.trivial.policies} == {None}
    assert any("earn nothing" in note for note in found.notes)
    json.dumps(found.to_json(), allow_nan=False)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    one, two = (evaluate(Bowl().model, graded(), seed=3) for _ in range(2))
    assert one == two
    other = evaluate(Bowl().model, graded(), seed=4)
    assert attrs.evolve(other, seed=3) != one
    assert other.policies == one.policies


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(UsageError, match="no policy"):
        evaluate(Half().model, [])
    with pytest.raises(UsageError, match="name of its own"):
        evaluate(Half().model, [policy("p", [0.1]), policy("p", [0.2])])
    with pytest.raises(DataError, match="as many features"):
        evaluate(Half(3).model, [policy("p", [0.1])])


# Reading


def save(folder: Path, name: str, **arrays: Any) -> None:
    np.savez(folder / f"{name}.npz", **arrays)


def test_files_are_read_under_either_name(tmp_path: Path) -> None:
    states = np.arange(10, dtype=np.float32).reshape(5, 2)
    rew = np.arange(5.0)
    save(tmp_path, "a", obs=states, rew=rew, ep_len=[2, 3], act=np.zeros(3))
    save(tmp_path, "b.1", states=states, reward=rew, episode=[7, 7, -1, -1, -1])
    (tmp_path / "summary.json").write_text("{}")
    a, b = read_policies(tmp_path)
    assert (a.name, b.name) == ("a", "b.1")
    for found in (a, b):
        assert found.states.dtype == np.float64
        assert found.episodes == 2
        assert found.returns is not None
        assert found.returns.tolist() == [1.0, 9.0]
        assert found.starts.tolist() == [[0, 1], [4, 5]]
        assert found.true_return == 5.0
        assert found.true_reward == 2.0


def test_recorded_returns_go_before_sums_and_need_no_episodes(tmp_path: Path) -> None:
    save(tmp_path, "p", states=np.zeros((4, 1)), rew=np.ones(4), ep_len=[4], ep_ret=[40.0])
    save(tmp_path, "q", states=np.zeros((4, 1)), ep_ret=[1.0, 2.0, 6.0])
    p, q = read_policies(tmp_path)
    assert p.true_return == 40.0
    assert (q.true_return, q.episodes) == (3.0, 3)
    assert len(q.starts) == 0


GOOD = {"states": np.zeros((4, 2))}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no-states": ({"rew": np.zeros(4)}, "needs its states"),
    "narrow": ({"states": np.zeros((4, 1))}, "as many features"),
    "nan": ({"states": np.full((4, 2), np.nan)}, "NaN or Inf in 4 of 4 rows"),
    "empty": ({"states": np.zeros((0, 2))}, "is empty"),
    "flat": ({"states": np.zeros(4)}, "two axes"),
    "text": ({"states": np.array([["a", "b"]])}, "integers or floats"),
    "short-reward": (GOOD | {"rew": np.zeros(3)}, "3 numbers, 4 states"),
    "inf-reward": (GOOD | {"reward": [0, np.inf, 0, 0]}, "reward holds NaN or Inf in 1 of 4"),
    "wide-reward": (GOOD | {"reward": np.zeros((4, 1))}, "one axis"),
    "sum": (GOOD | {"ep_len": [2, 3]}, "a sum of 5, 4 states"),
    "half": (GOOD | {"ep_len": [1.5, 2.5]}, "whole numbers"),
    "zero-length": (GOOD | {"ep_len": [4, 0]}, "whole numbers from 1"),
    "no-episode": (GOOD | {"ep_len": []}, "not be empty"),
    "returns": (GOOD | {"ep_len": [4], "ep_ret": [1, 2]}, "2 numbers, 1 episodes"),
    "apart": (GOOD | {"ep_len": [2, 2], "episode": [0, 0, 0, 1]}, "differently"),
    "label": (GOOD | {"label": [0, 1, 2, 0]}, "label must be 0"),
    "pickled": ({"states": np.array([object()])}, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_its_problem(case: str, tmp_path: Path) -> None:
    arrays, problem = BAD[case]
    save(tmp_path, case, **arrays)
    with pytest.raises(DataError, match=problem) as raised:
        read_policies(tmp_path, width=2)
    assert f"{case}.npz" in str(raised.value)
    assert raised.value.exit_code == 2


def test_all_bad_files_are_named_in_one_message(tmp_path: Path) -> None:
    save(tmp_path, "fine", **GOOD)
    for name, (arrays, _) in BAD.items():
        save(tmp_path, name, **arrays)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 not much of an archive")
    with pytest.raises(DataError) as raised:
        read_policies(tmp_path, width=2)
    told = str(raised.value)
    assert told.startswith(f"{len(BAD) + 1} files hold no policy")
    assert "fine.npz" not in told
    assert "torn.npz" in told
    for name, (_, problem) in BAD.items():
        assert f"{name}.npz" in told
        assert problem in " ".join(told.split())


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no policy"):
        read_policies(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        read_policies(tmp_path / "nowhere")


# Text and page


def full() -> list[Policy]:
    """Policies with every ingredient, and names that are no plain words."""
    found = [
        attrs.evolve(
            p,
            reward=10 * p.states[:, 0] ** 2,
            label=np.arange(10.0) % 2,
            value=p.states[:, 0] * 100,
        )
        for p in graded()
    ]
    long = attrs.evolve(found[0], name="a-name-that-is-long " * 4)
    return [*found, long, attrs.evolve(found[2], name=HOSTILE), attrs.evolve(found[2], name="$é雪")]


def test_the_text_fits_80_columns_and_shows_every_measure() -> None:
    huge = [attrs.evolve(p, returns=np.array([-9_999_999.0, -9_999_998.0])) for p in graded()[:1]]
    for policies in (full(), [*full(), attrs.evolve(huge[0], name="\x1b[31mred\nline")]):
        text = render_text(evaluate(Half().model, policies))
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        for word in ("best*", "Spearman", "EPIC", "frozen start", "flat on the way", "rejected"):
            assert word in text


def test_the_text_says_what_cannot_be_told() -> None:
    text = render_text(evaluate(Half().model, [policy("p", [0.1, 0.2])]))
    assert "cannot be told" in text
    assert re.search(r"^p +2 +- +- +- +- +0\.150 ", text, re.MULTILINE)
    assert "nan" not in text.lower().split()


class Page(HTMLParser):
    """Collects what a page asks for, what it draws, and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given_ = dict(attrs)
        self.tags.append(tag)
        self.links += [given_[name] for name in ("src", "href") if name in given_]
        self.alts += [given_["alt"]] if tag == "img" else []


def page_of(policies: list[Policy]) -> str:
    model = Half().model
    return render_page(evaluate(model, policies), model, policies, f"runs/{HOSTILE}")


def test_the_page_is_whole_offline_and_small() -> None:
    text = page_of(full())
    page = Page(text)
    assert all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert all("best" in alt for alt in page.alts)
    assert len(text.encode()) < 500_000
    shown = " ".join(html.unescape(text).split())
    found = evaluate(Half().model, full())
    for told in (verdict(found), *found.notes):
        assert " ".join(told.split()) in shown


def test_the_page_is_the_same_for_the_same_evaluation() -> None:
    assert page_of(full()) == page_of(full())


def test_the_page_without_truth_or_episodes_draws_nothing() -> None:
    page = Page(page_of([policy("p", [0.1, 0.2])]))
    assert "img" not in page.tags


def test_the_page_draws_episodes_of_which_no_true_reward_is_known() -> None:
    page = Page(page_of([policy("p", np.linspace(0, 1, 5000), ep_len=[4000, 1000])]))
    assert len(page.alts) == 1
    assert "p" in page.alts[0]
