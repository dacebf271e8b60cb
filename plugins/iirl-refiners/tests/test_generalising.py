"""Refiners that close the region a few flaws are samples of, and not these flaws alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import iirl_engine as iirl
from iirl_engine.audit import verify
from iirl_engine.builtin.norms import BoxNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, SupportOptions
from iirl_engine.corrections.cut import Cut
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.records import AuditResult
from iirl_engine.testing.worlds import Given, OneMinus
from iirl_refiners.enclosing import EnclosingBalls, enclosing_balls
from iirl_refiners.halfspaces import Halfspaces
from iirl_refiners.options import EnclosingBallsOptions, HalfspacesOptions
from iirl_refiners.separation import covering_planes, sparse_direction

Array = NDArray[np.float64]

FLOOR = 0.01
CONTEXT = iirl.Context("refine", "r", 0, 1)
LABELLED = 50


def flat(states: Tensor) -> Tensor:
    """A reward of 0.6 everywhere."""
    return 0 * states.sum(dim=1) + 0.6


def repair(good: Array, flaws: Array) -> iirl.Repair:
    """Return the request to close labelled flaws of a reward of 0.6 everywhere."""
    data = check(good)
    norm = SupportNorm(SupportOptions(boundary=1e-6))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    width = good.shape[1]
    domain = iirl.Domain((-9.0,) * width, (9.0,) * width)
    model = iirl.RewardModel(Given(flat), OneMinus(NoOptions()), {"support": norm}, data, domain)
    found = verify([AuditResult("a", "findings", flaws, len(flaws), 0.0)], model, FLOOR, ())[0].new
    return iirl.Repair(model, found, np.empty((0, width)), good, model(good), FLOOR)


def mended(asked: iirl.Repair, *refiners: Any) -> iirl.RewardModel:
    model = asked.model
    for i, refiner in enumerate(refiners):
        left = asked.flaws.take(np.flatnonzero(model(asked.flaws.states) > FLOOR))
        request = iirl.Repair(
            model, left, asked.closed, asked.known_good, asked.original, asked.floor
        )
        context = iirl.Context("refine", f"r{i}", 0, 1)
        model = model.with_corrections(refiner.propose(request, context).corrections)
    return model


def region(kind: str, width: int, count: int, rng: np.random.Generator) -> Array:
    """Return members of a region without experts; those are uniform from -1 to 1 with a hole."""
    states = rng.uniform(-1, 1, (count, width))
    if kind == "limit":
        states[:, 0] = rng.uniform(1.2, 3, count)
    elif kind == "linear":
        states[:, 0] = 1.5 + rng.uniform(0.8, 2, count) - states[:, 1]
    elif kind == "cluster":
        states = 2.5 + 0.1 * rng.standard_normal((count, width))
    else:
        states = 0.25 * states
    return states


def experts(width: int, count: int, rng: np.random.Generator) -> Array:
    states = rng.uniform(-1, 1, (4 * count, width))
    return states[np.linalg.norm(states, axis=1) > 0.3 * np.sqrt(width)][:count]


@pytest.mark.parametrize("width", [3, 16, 64])
@pytest.mark.parametrize("kind", ["limit", "linear", "cluster", "hole"])
def test_fifty_flaws_close_a_region_of_thousands(kind: str, width: int) -> None:
    rng = np.random.default_rng(width)
    good, held_out = experts(width, 1500, rng), experts(width, 1500, rng)
    members = region(kind, width, 2000, rng)
    asked = repair(good, members[:LABELLED])
    halfspaces, balls = Halfspaces(HalfspacesOptions()), EnclosingBalls(EnclosingBallsOptions())
    model = mended(asked, halfspaces, balls)
    assert (model(members[LABELLED:]) <= FLOOR).mean() >= 0.95
    assert 1 - model(held_out).mean() / 0.6 <= 0.01
    assert (asked.original - model(good)).max() <= 0.10 + 1e-9


def test_constraints_are_learned_from_verdicts_alone() -> None:
    """Boxes and a half-space, hidden from the refiner: it finds each from 200 flaws."""
    rng = np.random.default_rng(0)
    names = tuple(f"x{i}" for i in range(8))
    box = BoxNorm(BoxOptions(features=names[:3], low=(-1.0,) * 3, high=(1.0, 1.5, 1.0)))
    box.fit(check(np.zeros((1, 8))), CONTEXT)
    states = rng.normal(0, 0.8, (12_000, 8))
    forbidden = box.violation(torch.tensor(states)).numpy() > 0
    good, bad = states[~forbidden], states[forbidden]
    asked = repair(good[:2000], bad[:200])
    model = mended(asked, Halfspaces(HalfspacesOptions()), EnclosingBalls(EnclosingBallsOptions()))
    assert (model(bad[200:]) <= FLOOR).mean() >= 0.95
    assert 1 - model(good[2000:]).mean() / 0.6 <= 0.02
    cut = model.corrections[0]
    assert isinstance(cut, Cut)
    assert (np.count_nonzero(cut.normals, axis=1) == 1).all()
    assert set(np.argmax(np.abs(cut.normals), axis=1)) <= {0, 1, 2}


def test_a_hole_is_left_open_by_planes_with_the_reason_and_closed_by_balls() -> None:
    rng = np.random.default_rng(3)
    asked = repair(experts(3, 1500, rng), region("hole", 3, LABELLED, rng))
    said = Halfspaces(HalfspacesOptions()).propose(asked, CONTEXT)
    assert said.corrections == ()
    assert set(said.left) == set(range(LABELLED))
    assert "known-good" in said.left[0]
    closed = EnclosingBalls(EnclosingBallsOptions()).propose(asked, CONTEXT)
    assert closed.left == {}
    assert closed.corrections[0].count < 10


def test_a_flaw_that_is_a_known_good_state_stays_open_with_the_reason() -> None:
    rng = np.random.default_rng(4)
    good = experts(3, 200, rng)
    asked = repair(np.concatenate([good, [[0.0, 0.0, 0.0]]]), np.array([[0.0, 0.0, 1e-5]]))
    alike = iirl.Repair(
        asked.model, asked.flaws, asked.closed, asked.flaws.states, asked.original[-1:], FLOOR
    )
    said = EnclosingBalls(EnclosingBallsOptions()).propose(alike, CONTEXT)
    assert said.corrections == ()
    assert "known-good" in said.left[0]


@pytest.mark.parametrize("refiner", [Halfspaces, EnclosingBalls])
def test_what_it_expects_is_what_comes_and_one_seed_proposes_the_same(refiner: Any) -> None:
    rng = np.random.default_rng(5)
    asked = repair(experts(4, 800, rng), region("cluster", 4, LABELLED, rng))
    options = HalfspacesOptions() if refiner is Halfspaces else EnclosingBallsOptions()
    said, again = (refiner(options).propose(asked, CONTEXT) for _ in range(2))
    model = asked.model.with_corrections(said.corrections)
    assert (model(asked.flaws.states) <= FLOOR).sum() == LABELLED - len(said.left)
    for one, other in zip(said.corrections, again.corrections, strict=True):
        for name, array in one.tensors().items():
            assert np.array_equal(other.tensors()[name], array)


def test_a_cut_takes_no_more_than_allowed_of_states_that_have_lost_before() -> None:
    """A second repair counts what the first has taken."""
    rng = np.random.default_rng(6)
    good = experts(3, 800, rng)
    first = repair(good, region("limit", 3, LABELLED, rng))
    refiner = Halfspaces(HalfspacesOptions(max_loss=0.05))
    once = mended(first, refiner)
    flaws = region("linear", 3, LABELLED, rng)
    again = repair(good, flaws)
    second = iirl.Repair(once, again.flaws, first.closed, good, first.original, FLOOR)
    context = iirl.Context("refine", "r", 0, 2)
    twice = once.with_corrections(refiner.propose(second, context).corrections)
    assert (first.original - twice(good)).max() <= 0.05 + 1e-9


def test_a_sparse_direction_leaves_out_what_says_nothing() -> None:
    rng = np.random.default_rng(7)
    good = rng.uniform(-1, 1, (2000, 20))
    flaws = rng.uniform(-1, 1, (60, 20))
    flaws[:, 4] += 3
    normal = sparse_direction(flaws, good)
    assert normal is not None
    assert abs(normal[4]) > 0.9
    assert (good @ normal).max() < (flaws @ normal).min()


def test_planes_never_cut_off_a_state_to_spare() -> None:
    rng = np.random.default_rng(8)
    for width in (2, 5):
        good, flaws = rng.normal(size=(300, width)), 1.5 * rng.normal(size=(80, width))
        planes, rest = covering_planes(flaws, good, 2, 10)
        assert all((good @ p.normal < p.offset).all() for p in planes)
        beyond = [np.zeros(80, bool), *(flaws @ p.normal >= p.offset for p in planes)]
        inside = np.any(beyond, axis=0)
        assert set(np.flatnonzero(~inside)) == set(rest)


def test_balls_hold_every_flaw_and_no_known_good_state() -> None:
    rng = np.random.default_rng(9)
    good, flaws = rng.normal(size=(300, 3)), rng.normal(size=(120, 3))
    balls, rest = enclosing_balls(flaws, good, 10.0)
    assert len(rest) == 0
    for ball in balls:
        assert np.linalg.norm(good - ball.center, axis=1).min() >= ball.radius - 1e-12
    apart = np.stack([np.linalg.norm(flaws - b.center, axis=1) / b.radius for b in balls])
    assert (apart <= np.array([[b.share] for b in balls])).any(axis=0).all()


def test_ten_rounds_together_take_little_from_the_experts_and_reopen_nothing() -> None:
    rng = np.random.default_rng(10)
    good, held_out = experts(4, 1000, rng), experts(4, 1000, rng)
    first = repair(good, region("limit", 4, 10, rng))
    model, closed = first.model, np.empty((0, 4))
    still = region("cluster", 4, 200, rng)
    for round_ in range(1, 11):
        kind = ("limit", "linear", "cluster", "hole")[round_ % 4]
        flaws = repair(good, region(kind, 4, 12, rng)).flaws
        for i, refiner in enumerate(
            (Halfspaces(HalfspacesOptions()), EnclosingBalls(EnclosingBallsOptions()))
        ):
            left = flaws.take(np.flatnonzero(model(flaws.states) > FLOOR))
            asked = iirl.Repair(model, left, closed, good, first.original, FLOOR)
            context = iirl.Context("refine", f"r{i}", 0, round_)
            model = model.with_corrections(refiner.propose(asked, context).corrections)
        closed = np.concatenate([closed, flaws.states])
    assert (model(closed) <= FLOOR).all()
    assert (first.original - model(good)).max() <= 0.10 + 1e-9
    assert 1 - model(held_out).mean() / 0.6 <= 0.02
    assert first.model(still).mean() == pytest.approx(0.6)
    assert model(still).mean() < 0.01
