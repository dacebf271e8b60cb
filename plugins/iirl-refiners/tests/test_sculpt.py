"""Refiner `sculpt`: it closes what a monotone mapping can, and says what it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import iirl_engine as iirl
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.testing.worlds import Given, OneMinus
from iirl_refiners.options import SculptOptions
from iirl_refiners.sculpt import SculptMapping, fit_mapping

FLOOR = 0.01
CONTEXT = iirl.Context("refine", "sculpt", 0, 1)


def model_of(base: Any) -> iirl.RewardModel:
    """A reward whose base is a given function, in a plane."""
    expert = check(np.column_stack([np.linspace(-0.8, 0.8, 33), np.zeros(33)]))
    norm = SupportNorm(SupportOptions(boundary=0.5))
    norm.fit(expert, iirl.Context("norm", "support", 0, 0))
    domain = iirl.Domain((-1.0, -1.0), (1.0, 1.0))
    return iirl.RewardModel(Given(base), OneMinus(NoOptions()), {"support": norm}, expert, domain)


def asked(model: iirl.RewardModel, flawed: np.ndarray, good: np.ndarray) -> iirl.Repair:
    count = len(flawed)
    flaws = iirl.Flaws(
        tuple(f"f{i}" for i in range(count)),
        flawed,
        model(flawed),
        np.ones(count),
        ("support",) * count,
        ("a",) * count,
    )
    return iirl.Repair(model, flaws, np.empty((0, 2)), good, model(good), FLOOR)


def propose(repair: iirl.Repair, **options: Any) -> iirl.Proposal:
    proposal = SculptMapping(SculptOptions(**options)).propose(repair, CONTEXT)
    assert isinstance(proposal, iirl.Proposal)
    return proposal


def falling(states: Tensor) -> Tensor:
    """0.9 on the experts' line, less with distance from it."""
    return (0.9 - states[:, 1].abs()).clamp(min=0.0)


GENERATOR = np.random.default_rng(0)
LINE = np.column_stack([GENERATOR.uniform(-0.8, 0.8, 100), GENERATOR.uniform(-0.3, 0.3, 100)])
FAR = np.column_stack([GENERATOR.uniform(-1, 1, 50), GENERATOR.uniform(0.55, 0.8, 50)])


def test_flaws_of_low_base_reward_are_closed_everywhere_at_once() -> None:
    repair = asked(model_of(falling), FAR, LINE)
    proposal = propose(repair)
    (correction,) = proposal.corrections
    assert isinstance(correction, iirl.Sculpt)
    assert not correction.center.size
    mended = repair.model.with_corrections(proposal.corrections)
    others = FAR * [1, -1]
    assert (mended(np.concatenate([FAR, others])) <= FLOOR).all()
    assert (repair.original - mended(LINE)).max() <= 0.05
    assert (proposal.closes, dict(proposal.left)) == (50, {})


def test_it_estimates_what_comes_of_it() -> None:
    repair = asked(model_of(falling), FAR, LINE)
    proposal = propose(repair)
    mended = repair.model.with_corrections(proposal.corrections)
    loss = repair.original - mended(LINE)
    assert proposal.worst_loss == pytest.approx(loss.max())
    assert proposal.mean_loss == pytest.approx(loss.mean())


def high(states: Tensor) -> Tensor:
    """As high far above the line as on it."""
    return falling(states) + (states[:, 1] - 0.4).clamp(min=0.0) * 2


def test_flaws_of_high_base_reward_are_closed_where_they_are() -> None:
    repair = asked(model_of(high), FAR, LINE)
    nowhere = propose(repair, regions=0)
    assert nowhere.closes == 0
    proposal = propose(repair)
    assert proposal.closes == 50
    mended = repair.model.with_corrections(proposal.corrections)
    assert (mended(FAR) <= FLOOR).all()
    assert (repair.original - mended(LINE)).max() <= 0.10
    assert all(isinstance(c, iirl.Sculpt) and c.center.size for c in proposal.corrections)
    assert len({c.id for c in proposal.corrections}) == len(proposal.corrections)
    fresh = np.column_stack([np.linspace(-0.9, 0.9, 200), np.full(200, 0.65)])
    assert (mended(fresh) <= FLOOR).mean() > 0.8


def test_a_flaw_among_known_good_states_stays_open_with_a_reason() -> None:
    repair = asked(model_of(falling), LINE[:1], LINE)
    proposal = propose(repair)
    assert proposal.corrections == ()
    assert proposal.closes == 0
    assert "max_loss" in proposal.left[0]


def test_losses_count_since_release_0() -> None:
    repair = asked(model_of(high), FAR, LINE)
    lowered = iirl.Sculpt(id="was", refiner="r", round=1, knots=[0, 1], values=[0, 0.9])
    model = repair.model.with_corrections([lowered])
    again = iirl.Repair(
        model, repair.flaws, repair.closed, repair.known_good, repair.original, FLOOR
    )
    mended = model.with_corrections(propose(again).corrections)
    assert (repair.original - mended(LINE)).max() <= 0.10


def test_it_can_be_asked_twice_a_round() -> None:
    repair = asked(model_of(high), FAR, LINE)
    half = asked(repair.model, FAR[:1], LINE)
    model = repair.model.with_corrections(propose(half).corrections)
    again = iirl.Repair(
        model, repair.flaws, repair.closed, repair.known_good, repair.original, FLOOR
    )
    assert (model(FAR) > FLOOR).any()
    mended = model.with_corrections(propose(again).corrections)
    assert (mended(FAR) <= FLOOR).all()


def test_one_seed_proposes_the_same() -> None:
    first, second = (propose(asked(model_of(high), FAR, LINE)) for _ in range(2))
    for one, other in zip(first.corrections, second.corrections, strict=True):
        assert one.describe() == other.describe()
        for name, array in one.tensors().items():
            assert np.array_equal(other.tensors()[name], array)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(0, 30))
def test_the_mapping_closes_all_that_a_monotone_one_can(seed: int, flaws: int, goods: int) -> None:
    generator = np.random.default_rng(seed)
    levels = generator.uniform(0.1, 1, 12).round(3)
    flawed, good = generator.choice(levels, flaws), generator.choice(levels, goods)
    allowed = generator.choice([0.0, 0.1, 0.3], goods)
    most = np.full(flaws, 0.005)
    fitted = fit_mapping(flawed, most, good, np.ones(goods), allowed)
    least = [(good - allowed)[good <= base].max(initial=0.0) for base in flawed]
    closable = np.array(least) <= 0.005
    assert (fitted is not None) == closable.any()
    if fitted is None:
        return
    knots, values = fitted
    correction = iirl.Sculpt(id="s", refiner="r", round=1, knots=knots, values=values)
    mapped = correction.mapped(torch.tensor(np.concatenate([flawed, good]))).numpy()
    assert (mapped[:flaws][closable] <= 0.005 + 1e-5).all()
    assert (good - mapped[flaws:] <= allowed + 1e-6).all()
