"""Trivial behaviour: what earns like the expert and is not is told, with its numbers."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_auditors.adversarial.options import TrivialOptions
from iirl_auditors.adversarial.trivial import Trivial, frozen, segments_of
from iirl_auditors.gradient_extrapolation.options import SaturationOptions
from iirl_auditors.gradient_extrapolation.saturation import Saturation
from iirl_engine.audit import AuditJob, run_audit
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.demonstrations import check
from iirl_engine.evaluation.trivial import made_up, visited
from iirl_engine.options import NoOptions
from iirl_engine.testing.worlds import Given, OneMinus

RNG = np.random.default_rng(0)


def walk(episodes: int = 8, length: int = 40) -> iirl.Demonstrations:
    """Place, speed and heading of a walker who starts at rest and then walks at speed 1."""
    place = np.tile(np.arange(length) / length, episodes)
    speed = np.minimum(np.tile(np.arange(length) / 4, episodes), 1.0)
    heading = 0.1 * RNG.normal(size=episodes * length)
    states = np.stack([place, speed, heading], axis=1)
    names = ("place", "speed", "heading")
    return check(states, episode=np.repeat(np.arange(episodes), length), feature_names=names)


def told(
    reward: Any, data: iirl.Demonstrations, cls: Any = Trivial, options: Any = None
) -> dict[str, iirl.Concern]:
    norm = SupportNorm(SupportOptions(boundary=0.5))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    width = len(data.feature_names)
    domain = iirl.Domain((-2.0,) * width, (2.0,) * width)
    model = iirl.RewardModel(Given(reward), OneMinus(NoOptions()), {"support": norm}, data, domain)
    job = AuditJob(cls(options or TrivialOptions()), model, 0.01, iirl.Context("audit", "a", 0, 1))
    result = run_audit(job)
    assert result.status in ("clean", "findings"), result.reason
    assert result.queries <= job.auditor.options.budget
    return {concern.kind: concern for concern in result.concerns}


def near_the_path(states: Tensor) -> Tensor:
    """As high where the walker rests as where he walks: the place is right, the speed no matter."""
    return (1 - states[:, 2].abs()) * (states[:, 0].abs() < 1.01)


def walking(states: Tensor) -> Tensor:
    return near_the_path(states) * states[:, 1].clamp(0, 1)


def test_standing_still_that_earns_like_walking_is_told() -> None:
    said = told(near_the_path, walk())
    assert said["standing-still"].numbers["share"] == pytest.approx(1.0, abs=0.1)
    assert "earns" in said["standing-still"].text
    states = said["standing-still"].states
    assert states is not None
    assert np.abs(states[:, :2]).max() == 0.0  # at rest, where episodes start


def test_a_reward_for_walking_has_no_such_concern() -> None:
    said = told(walking, walk())
    assert "standing-still" not in said
    assert "zero-state" not in said


def test_what_matters_is_named_when_all_else_may_stand_still() -> None:
    said = told(lambda s: s[:, 1].clamp(0, 1) * 0.9, walk())
    assert said["frozen-features"].numbers["frozen"] == 2
    assert said["frozen-features"].text.endswith("all that has to move is speed.")
    assert "frozen-features" not in told(lambda s: s[:, 1] * s[:, 0] * 0.5, walk())
    assert "frozen-features" not in told(near_the_path, walk())  # nothing has to move


def test_features_that_are_right_by_themselves_alone_are_told() -> None:
    angle = np.linspace(0, 6.28, 200)
    circle = check(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert "permuted-features" in told(lambda s: (s.abs() < 1.001).all(dim=1).double(), circle)
    radius = told(lambda s: (1 - 5 * (s.square().sum(1) - 1).abs()).clamp(min=0), circle)
    assert "permuted-features" not in radius


def test_a_segment_that_pays_to_repeat_is_told() -> None:
    def at_the_end(states: Tensor) -> Tensor:
        return states[:, 0].clamp(0, 1) ** 4

    said = told(at_the_end, walk(), options=TrivialOptions(segment=5))["replayed-segment"]
    assert said.numbers["gain"] > 3
    assert said.states is not None
    assert said.states.shape == (5, 3)
    assert (said.states[:, 0] > 0.8).all()
    flat = told(lambda s: 0.5 + 0 * s[:, 0], walk(), options=TrivialOptions(segment=5))
    assert "replayed-segment" not in flat


def test_no_segment_reaches_over_the_end_of_an_episode() -> None:
    runs = segments_of(np.array([0, 0, 1, 1, 1, 0]), 6)
    assert [run.tolist() for run in runs] == [[0, 1], [2, 3, 4], [5]]
    assert [run.tolist() for run in segments_of(None, 3)] == [[0], [1], [2]]


def test_frozen_features_keep_the_others() -> None:
    states = np.arange(6.0).reshape(2, 3)
    held = frozen(states, np.array([7.0, 8.0, 9.0]), [0, 2])
    assert held.tolist() == [[7.0, 1.0, 9.0], [7.0, 4.0, 9.0]]
    assert states[0, 0] == 0.0


def test_fresh_demonstrations_are_the_measure_when_there_are_some() -> None:
    def falling(states: Tensor) -> Tensor:
        return 1 - 0.3 * states[:, 0]

    data = walk()
    fresh = attrs.evolve(data, held_out=data.states[data.states[:, 0] > 0.9])
    for demonstrations, states in ((data, data.states), (fresh, fresh.held_out)):
        numbers = told(falling, demonstrations)["standing-still"].numbers
        expected = float(falling(torch.tensor(states)).mean())
        assert numbers["demonstrations"] == pytest.approx(expected, abs=1e-9)
        assert numbers["share"] == pytest.approx(1 / expected, abs=1e-9)


def test_a_reward_that_gives_demonstrations_nothing_is_compared_with_nothing() -> None:
    assert told(lambda s: 0 * s[:, 0], walk()) == {}


def test_evaluation_and_auditor_mean_the_same_policies() -> None:
    data = walk()
    model = iirl.RewardModel(
        Given(walking), OneMinus(NoOptions()), {}, data, iirl.Domain((-2.0,) * 3, (2.0,) * 3)
    )
    states = visited(data.states[:5], data.states, generator=np.random.default_rng(3))
    scores = made_up(model, data.states[:5], data.states, generator=np.random.default_rng(3))
    assert scores == {name: float(model(some).mean()) for name, some in states.items()}
    shuffled = states["shuffled features"]
    assert not np.array_equal(shuffled, data.states)
    assert np.array_equal(np.sort(shuffled, axis=0), np.sort(data.states, axis=0))


class TestSlope:
    def test_a_plateau_between_starts_and_demonstrations_is_told(self) -> None:
        data = walk()

        def step(states: Tensor) -> Tensor:
            return (states[:, 0] > 0.9).double() * 0.5 + 0 * states.sum(dim=1)

        said = told(step, data, Saturation, SaturationOptions())["no-slope"]
        assert said.numbers["flat"] > 0.95
        assert "starts of episodes" in said.text

    def test_a_slope_all_the_way_is_none(self) -> None:
        slope = told(lambda s: 0.3 * (s[:, 0] + 2), walk(), Saturation, SaturationOptions())
        assert slope == {}

    def test_a_reward_that_does_not_tell_its_gradient_is_not_blamed(self) -> None:
        def silent(states: Tensor) -> Tensor:
            with torch.no_grad():
                return 0.3 * (states[:, 0] + 2)

        assert told(silent, walk(), Saturation, SaturationOptions()) == {}
