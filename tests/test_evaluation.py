"""An evaluation's measures agree with answers known by other means, and None is never a number."""

from __future__ import annotations

import json

import attrs
import numpy as np
import pytest
import torch
from scipy import stats

from iirl_engine.errors import DataError, UsageError
from iirl_engine.evaluation import (
    evaluate,
)
from iirl_engine.evaluation.saturation import saturation
from iirl_engine.testing.worlds import Bowl, Flat
from tests.graded_policies import Diagonal, Half, graded, policy


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
