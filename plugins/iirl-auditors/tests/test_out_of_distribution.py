"""Detectors tell what is strange, keep the error rate they state, and survive awkward data."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_auditors.out_of_distribution.candidates import propose, rays
from iirl_auditors.out_of_distribution.detecting import Calibrated, nearest_out, worth_asking
from iirl_auditors.out_of_distribution.flow import Flow
from iirl_auditors.out_of_distribution.gmm import Gmm
from iirl_auditors.out_of_distribution.isolation_forest import IsolationForest
from iirl_auditors.out_of_distribution.knn import Knn
from iirl_auditors.out_of_distribution.lof import Lof
from iirl_auditors.out_of_distribution.mahalanobis import Mahalanobis
from iirl_auditors.out_of_distribution.options import (
    FlowOptions,
    GmmOptions,
    IsolationForestOptions,
    KnnOptions,
    LofOptions,
    MahalanobisOptions,
)
from iirl_auditors.out_of_distribution.units import Units
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.conformal import discoveries, p_values
from iirl_engine.demonstrations import check, hold_out, widened_range
from iirl_engine.options import NoOptions
from iirl_engine.records import AuditResult, Demonstrations
from iirl_engine.testing.worlds import Given, OneMinus

FLOOR = 0.01
DETECTORS: list[Any] = [
    Knn(KnnOptions(budget=400)),
    Lof(LofOptions(budget=400)),
    Gmm(GmmOptions(budget=400)),
    Mahalanobis(MahalanobisOptions(budget=400)),
    IsolationForest(IsolationForestOptions(budget=400, trees=50)),
    Flow(FlowOptions(budget=400, steps=60, hidden=16)),
]
every = pytest.mark.parametrize("auditor", DETECTORS, ids=lambda auditor: type(auditor).__name__)


def reward(states: Tensor) -> Tensor:
    """Too high everywhere: every forbidden state is a flaw."""
    return torch.full_like(states[:, 0], 0.5)


def model_of(data: Demonstrations, boundary: float, reward: Any = reward) -> iirl.RewardModel:
    norm = SupportNorm(SupportOptions(boundary=boundary))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    domain = widened_range(data.states)
    return iirl.RewardModel(Given(reward), OneMinus(NoOptions()), {"support": norm}, data, domain)


def audit(auditor: Any, model: iirl.RewardModel, seed: int = 0) -> AuditResult:
    return run_audit(AuditJob(auditor, model, FLOOR, iirl.Context("audit", "a", seed, 1)))


def correlated(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Two features that vary together, and one on its own."""
    one, noise = rng.normal(size=(count, 1)), rng.normal(size=(count, 2))
    return np.hstack([one, one + 0.1 * noise[:, :1], noise[:, 1:]])


def shift(first: float, second: float) -> np.ndarray[Any, Any]:
    return np.array([first, second, 0.0])


@every
def test_what_is_strange_scores_higher_than_what_is_fresh(auditor: Any) -> None:
    rng = np.random.default_rng(0)
    score = auditor.detector(correlated(rng, 600), 7)
    fresh, far = score(correlated(rng, 200)), score(correlated(rng, 200) + shift(8.0, 8.0))
    assert np.isfinite(fresh).all()
    assert (far > np.quantile(fresh, 0.99)).mean() > 0.9


@pytest.mark.parametrize("auditor", [DETECTORS[i] for i in (0, 1, 2, 3)])
def test_a_bad_combination_of_ordinary_features_is_strange(auditor: Any) -> None:
    rng = np.random.default_rng(1)
    score = auditor.detector(correlated(rng, 600), 7)
    fresh, broken = score(correlated(rng, 200)), score(correlated(rng, 200) * [1.0, -1.0, 1.0])
    assert (broken > np.quantile(fresh, 0.99)).mean() > 0.4


@every
def test_the_rate_holds_on_fresh_and_strange_states_together(auditor: Any) -> None:
    proportions, found = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        score = auditor.detector(correlated(rng, 300), seed)
        calibration = score(correlated(rng, 400))
        states = np.concatenate([correlated(rng, 80), correlated(rng, 40) + shift(9.0, -9.0)])
        flags = discoveries(p_values(calibration, score(states)), 0.05)
        proportions.append(flags[:80].sum() / max(flags.sum(), 1))
        found.append(flags[80:].mean())
    error = np.std(proportions) / np.sqrt(len(proportions))
    assert np.mean(proportions) <= 0.05 + 3 * error
    # Where no cut falls beyond the expert states, a forest tells no far state from the farthest.
    assert np.mean(found) > (0.3 if isinstance(auditor, IsolationForest) else 0.9)


@every
def test_reported_states_carry_their_p_value_and_how_it_came_about(auditor: Any) -> None:
    data = check(correlated(np.random.default_rng(2), 1200))
    result = audit(auditor, model_of(data, 1.0))
    assert result.status == "findings", result.reason
    assert result.p_values is not None
    proposed = np.array(["best of" not in name for name in result.methods])
    assert set(result.methods) <= {
        "split-conformal over 400 states, FDR 0.05",
        "split-conformal over 400 states, best of 8, FDR 0.05",
    }
    assert proposed.any()
    assert (result.p_values <= 0.05).all()
    assert (result.p_values[~proposed] <= 0.025).all()
    assert result.queries <= 400
    (verified,) = verify([result], model_of(data, 1.0), FLOOR, ())
    assert len(verified.new) == len(result.states)


def test_searched_states_are_reported_as_the_best_of_their_ray() -> None:
    data = check(correlated(np.random.default_rng(2), 3000))
    result = audit(Knn(KnnOptions(budget=400)), model_of(data, 0.3))
    assert any("best of 8" in name for name in result.methods)


def test_few_episodes_are_few_whatever_they_hold() -> None:
    rng = np.random.default_rng(3)
    data = check(correlated(rng, 1000), episode=np.arange(1000) // 100)
    result = audit(Knn(KnnOptions(budget=400)), model_of(data, 1.0))
    told = "split-conformal over 5 episodes, none at FDR 0.05, which takes 19 or more"
    assert set(result.methods) == {told}
    assert result.p_values is not None
    assert (result.p_values >= 1 / 6).all()
    counted = audit(Knn(KnnOptions(budget=400, by_episode=False)), model_of(data, 1.0))
    assert counted.p_values is not None
    assert all("states" in name and name.endswith(" FDR 0.05") for name in counted.methods)
    assert counted.p_values.min() < 0.01


def test_more_than_a_third_of_the_episodes_calibrate_where_it_takes_as_many() -> None:
    rng = np.random.default_rng(3)
    data = check(correlated(rng, 1600), episode=np.arange(1600) // 10)
    result = audit(Knn(KnnOptions(budget=400)), model_of(data, 1.0))
    assert set(result.methods) == {"split-conformal over 79 episodes, FDR 0.05"}


def test_the_held_out_demonstrations_calibrate() -> None:
    rng = np.random.default_rng(4)
    data = hold_out(check(correlated(rng, 1000)), 0.25, rng)
    result = audit(Knn(KnnOptions(budget=400)), model_of(data, 1.0))
    assert all(name.startswith("split-conformal over 250 states") for name in result.methods)


@every
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("width", [1, 3, 64])
def test_a_handful_of_states_is_enough(auditor: Any, count: int, width: int) -> None:
    data = check(np.random.default_rng(5).normal(size=(count, width)))
    result = audit(auditor, model_of(data, 0.1))
    assert result.status == "findings", result.reason
    assert all("none at FDR 0.05" in name for name in result.methods)


AWKWARD = {
    "constant": np.full((60, 3), 2.5),
    "one constant feature": np.c_[np.random.default_rng(0).normal(size=(60, 2)), np.zeros(60)],
    "all alike but one": np.r_[np.zeros((59, 2)), np.ones((1, 2))],
    "twice each": np.repeat(np.random.default_rng(1).normal(size=(40, 2)), 2, axis=0),
    "two values": np.random.default_rng(2).integers(0, 2, size=(80, 4)).astype(float),
    "huge": 1e300 * np.random.default_rng(3).normal(size=(60, 2)),
    "tiny": 1e-300 * np.random.default_rng(4).normal(size=(60, 2)),
    "of all sizes": np.random.default_rng(5).normal(size=(60, 3)) * [1e-9, 1.0, 1e9],
    "wider than long": np.random.default_rng(6).normal(size=(40, 64)),
}


@every
@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_data_is_survived(auditor: Any, kind: str) -> None:
    data = check(AWKWARD[kind])
    model = model_of(data, float(1e-3 * np.ptp(data.states) or 1e-3))
    result = audit(auditor, model)
    assert result.status == "findings", result.reason
    assert np.isfinite(result.states).all()
    low, high = np.array(model.domain.low), np.array(model.domain.high)
    assert ((result.states >= low) & (result.states <= high)).all()


@every
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_reward_that_is_no_number_is_no_finding(auditor: Any, value: float) -> None:
    data = check(correlated(np.random.default_rng(6), 200))
    model = model_of(data, 0.5, lambda states: torch.full_like(states[:, 0], value))
    (verified,) = verify([audit(auditor, model)], model, FLOOR, ())
    assert verified.result.status == "clean"


@every
def test_what_the_norms_allow_is_never_asked_about(auditor: Any) -> None:
    asked = []

    def told(states: Tensor) -> Tensor:
        asked.append(states)
        return reward(states)

    data = check(correlated(np.random.default_rng(7), 200))
    model = model_of(data, 0.5, told)
    result = audit(auditor, model)
    states = torch.cat(asked)
    assert len(states) == result.queries
    assert (model.violation(states) > 0).all()


def test_a_score_that_is_no_number_is_no_evidence() -> None:
    calibrated = Calibrated(
        lambda states: np.where(states[:, 0] > 0, np.nan, 1.0), np.zeros(99), None
    )
    called, p, told = worth_asking(np.array([[1.0], [-1.0]]), calibrated, 0.05)
    assert called.tolist() == [False, True]
    assert p.tolist() == [1.0, 0.01]
    assert told == "split-conformal over 99 states, FDR 0.05"


def test_the_nearest_state_that_is_far_enough_out_stands_for_its_ray() -> None:
    calibrated = Calibrated(lambda states: states[:, 0], np.arange(999.0), None)
    searched = np.array([[[5.0], [1000.0], [2000.0]], [[5.0], [6.0], [995.0]]])
    states, p = nearest_out(searched, calibrated, 0.01)
    assert states[:, 0].tolist() == [1000.0, 995.0]
    assert p.tolist() == pytest.approx([0.003, 0.015])
    none, empty = nearest_out(np.empty((0, 3, 1)), calibrated, 0.05)
    assert none.shape == (0, 1)
    assert empty.shape == (0,)


def test_proposals_are_of_three_kinds() -> None:
    rng = np.random.default_rng(8)
    expert, low, high = rng.normal(size=(50, 4)), np.full(4, -6.0), np.full(4, 6.0)
    states = propose(expert, low, high, 3000, rng)
    recombined, around, anywhere = (states[kind::3] for kind in range(3))
    for feature in range(4):
        assert np.isin(recombined[:, feature], expert[:, feature]).all()
    known = set(map(tuple, expert))
    assert np.mean([tuple(state) in known for state in recombined]) < 0.3
    apart = np.linalg.norm(around[:, None] - expert[None], axis=2).min(axis=1)
    assert np.quantile(apart, 0.1) < 0.5 * np.median(apart)
    assert np.quantile(apart, 0.9) > 1.5 * np.median(apart)
    assert ((anywhere >= low) & (anywhere <= high)).all()
    assert np.abs(anywhere.mean(axis=0)).max() < 0.5


def test_rays_leave_an_expert_state_and_end_at_the_edge() -> None:
    rng = np.random.default_rng(9)
    expert, low, high = rng.normal(size=(50, 3)), np.full(3, -6.0), np.full(3, 6.0)
    states = rays(expert, low, high, 20, 8, rng)
    assert states.shape == (20, 8, 3)
    steps = np.linalg.norm(np.diff(states, axis=1), axis=2)
    assert (np.diff(steps, axis=1) > 0).all()
    assert np.abs(states[:, -1]).max(axis=1) == pytest.approx(6.0)
    assert (np.abs(states[:, :-1]) < 6.0).all()


def test_units_come_back() -> None:
    rng = np.random.default_rng(10)
    states = rng.normal(size=(30, 3)) * [1e-6, 1.0, 1e6]
    domain = widened_range(states)
    units = Units.of(states, np.array(domain.low), np.array(domain.high))
    standard = units(states)
    assert standard.std(axis=0) == pytest.approx(1.0)
    assert units.back(standard) == pytest.approx(states, rel=1e-6)
    assert (units.back(1e9 * standard) <= units.high).all()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    data = check(np.random.default_rng(11).normal(size=(30, 2)))
    result = audit(DETECTORS[-1], model_of(data, 0.5))
    assert result.status == "crashed"
    assert "zuko" in result.reason


@every
def test_a_second_round_looks_elsewhere(auditor: Any) -> None:
    model = model_of(check(correlated(np.random.default_rng(12), 200)), 0.5)
    first, again = (audit(auditor, model, seed) for seed in (0, 0))
    other = audit(auditor, model, 1)
    assert np.array_equal(first.states, again.states)
    assert first.p_values is not None
    assert np.array_equal(first.p_values, again.p_values)
    assert not np.array_equal(first.states[:10], other.states[:10])
