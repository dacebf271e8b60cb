"""Every gate refuses what it is there to refuse, says by which numbers, and lets the rest pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import iirl_engine as iirl
from iirl_engine import Context, Kernels
from iirl_engine.audit import verify
from iirl_engine.builtin.budget import Budget
from iirl_engine.builtin.collateral import Collateral
from iirl_engine.builtin.gates import Closure, KnownGood
from iirl_engine.builtin.local_red_team import LocalRedTeam
from iirl_engine.builtin.options import (
    BudgetOptions,
    ClosureOptions,
    CollateralOptions,
    KnownGoodOptions,
    LocalRedTeamOptions,
    OrderingOptions,
    TrainableOptions,
)
from iirl_engine.builtin.ordering import Ordering, graded
from iirl_engine.builtin.trainable import Trainable
from iirl_engine.errors import DataError
from iirl_engine.local_search import search_near
from iirl_engine.records import AuditResult
from iirl_engine.testing.worlds import FLOOR, Cliff, Flat, World

Array = NDArray[np.float64]
GOOD = np.random.default_rng(4).uniform(-0.3, 0.3, (200, 2))


class Hill(World):
    """Rises everywhere towards the origin: 1 - |s|; endorses what is forbidden up to |s| = 0.99."""

    def reward(self, states: Tensor) -> Tensor:
        return (1 - torch.linalg.vector_norm(states, dim=1)).clamp(min=0)

    def flawed_share(self) -> float:
        return float(np.pi * 0.99**2 / 4 - 0.25)


def kernels(centers: Any, radius: float, strength: float, name: str = "k") -> Kernels:
    centers = np.atleast_2d(centers)
    count = len(centers)
    return Kernels(
        id=name,
        refiner="r",
        round=1,
        centers=centers,
        radii=np.full(count, radius),
        strengths=np.full(count, strength),
    )


def evidence(world: World, **changes: Any) -> iirl.Evidence:
    states = np.random.default_rng(3).uniform(-1, 1, (1000, 2))
    result = AuditResult("uniform", "findings", states, 1000, 0.0)
    flaws = verify([result], world.model, FLOOR, ())[0].new
    was_open = np.ones(len(flaws), bool)
    made = iirl.Evidence(
        world.model, flaws, was_open, GOOD, world.model(GOOD), FLOOR, "", first=world.model
    )
    return attrs.evolve(made, **changes)


def judged(
    gate: Any, world: World, *corrections: Kernels, given: iirl.Evidence | None = None
) -> iirl.Judgement:
    candidate = iirl.Candidate(1, corrections, world.model.with_corrections(corrections))
    said: iirl.Judgement = gate.judge(
        candidate, given or evidence(world), Context("gate", "g", 0, 1)
    )
    assert all(np.isfinite(value) for value in said.numbers.values())
    assert said.ok == (not said.reason)
    return said


def test_known_good_tells_what_was_learned_from_what_was_held_out() -> None:
    held_out = np.arange(len(GOOD)) >= 150
    given = evidence(Flat(), held_out=held_out)
    gate = KnownGood(KnownGoodOptions())
    assert gate.cap == 0.10
    spot = kernels(GOOD[-1], 1e-6, 0.3)
    said = judged(gate, Flat(), spot, given=given)
    assert not said.ok
    assert said.blames == ("k",)
    assert said.numbers["train_worst_loss"] == 0
    assert said.numbers["held_out_worst_loss"] == pytest.approx(0.3)
    assert said.numbers["held_out_states"] == 50
    assert judged(gate, Flat(), kernels([0.9, 0.9], 0.3, 1.0), given=given).ok


def test_known_good_counts_from_release_0_and_tells_the_round_apart() -> None:
    first = Flat().model
    current = first.with_corrections([kernels(GOOD, 1e-6, 0.08, "old")])
    given = evidence(Flat(), current=current, first=first)
    new = kernels(GOOD, 1e-6, 0.05, "new")
    candidate = iirl.Candidate(2, (new,), current.with_corrections([new]))
    said = KnownGood(KnownGoodOptions()).judge(candidate, given, Context("gate", "g", 0, 2))
    assert not said.ok
    assert said.numbers["worst_loss"] == pytest.approx(0.13)
    assert said.numbers["round_worst_loss"] == pytest.approx(0.05)
    assert said.blames is not None
    assert len(said.blames) == 200


def test_closure_counts_the_flaws_that_no_refiner_was_shown() -> None:
    given = evidence(Flat())
    withheld = np.arange(len(given.flaws)) % 5 == 0
    given = attrs.evolve(given, withheld=withheld)
    needles = kernels(given.flaws.states[~withheld], 1e-6, 1.0)
    gate = Closure(ClosureOptions(held_out_share=0.9))
    said = judged(gate, Flat(), needles, given=given)
    assert (said.numbers["share"], said.numbers["held_out_share"]) == (1.0, 0.0)
    assert not said.ok
    assert said.blames == ()
    lenient = Closure(ClosureOptions(held_out_share=0.0))
    assert judged(lenient, Flat(), needles, given=given).ok
    assert judged(gate, Flat(), kernels(given.flaws.states, 1e-6, 1.0), given=given).ok


def test_closure_asks_only_for_what_was_not_given_up() -> None:
    given = evidence(Flat())
    some = kernels(given.flaws.states[:100], 1e-6, 1.0)
    assert not judged(Closure(ClosureOptions()), Flat(), some, given=given).ok
    asked = np.arange(len(given.flaws)) < 100
    narrowed = attrs.evolve(given, asked=asked)
    assert judged(Closure(ClosureOptions()), Flat(), some, given=narrowed).ok


def test_collateral_refuses_what_changes_near_flaws_or_far_from_them() -> None:
    gate = Collateral(CollateralOptions())
    # The support norm of the worlds reaches far: everything allowed lies near a flaw of `Flat`.
    ring = kernels([[0.8 * x, 0.8 * y] for x in (-1, 1) for y in (-1, 1)], 0.3, 5.0)
    assert judged(gate, Flat(), ring).ok
    wide = judged(gate, Flat(), kernels([0.0, 0.0], 2.0, 5.0))
    assert not wide.ok
    assert "near a flaw change by" in wide.reason
    few = evidence(Cliff())
    few = attrs.evolve(few, flaws=few.flaws.take([0]), was_open=np.ones(1, bool))
    far = judged(gate, Cliff(), kernels([-0.45, -0.45], 0.6, 5.0), given=few)
    assert not far.ok or far.numbers["far_states"] == 0
    assert far.numbers["near_states"] + far.numbers["far_states"] > 500


def test_collateral_counts_a_lift_as_well() -> None:
    lift = attrs.evolve(kernels([0.0, 0.0], 2.0, 5.0), effect="lift")
    assert not judged(Collateral(CollateralOptions()), Flat(), lift).ok


def test_the_local_red_team_finds_what_points_leave_open_and_blames_them() -> None:
    gate = LocalRedTeam(LocalRedTeamOptions(budget=4000))
    given = evidence(Flat())
    needles = kernels(given.flaws.states, 0.02, 5.0)
    said = judged(gate, Flat(), needles, given=given)
    assert not said.ok
    assert said.numbers["rate"] > 0.5
    assert said.numbers["queries"] <= 4000
    assert said.blames
    assert set(said.blames) <= {f"k[{i}]" for i in range(needles.count)}
    x, y = np.meshgrid(*[np.linspace(-1.2, 1.2, 61)] * 2)
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    cover = kernels(grid[np.abs(grid).max(axis=1) > 0.56], 0.15, 1e4)
    passed = judged(gate, Flat(), cover, given=given)
    assert passed.ok, passed.reason
    assert passed.numbers["searches"] > 100


def test_the_local_red_team_does_not_count_what_is_on_record_as_left_open() -> None:
    given = evidence(Flat())
    gate = LocalRedTeam(LocalRedTeamOptions(budget=4000))
    half = given.flaws.states[:, 0] > 0
    x, y = np.meshgrid(*[np.linspace(-1.2, 1.2, 61)] * 2)
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    right = grid[(np.abs(grid).max(axis=1) > 0.56) & (grid[:, 0] > -0.05)]
    cover = kernels(right, 0.15, 1e4)
    assert not judged(gate, Flat(), cover, given=given).ok
    passed = judged(gate, Flat(), cover, given=attrs.evolve(given, asked=half))
    assert passed.ok, passed.reason


def test_a_local_search_stays_in_its_balls_and_pays_for_what_it_asks() -> None:
    centers, radii = np.array([[0.7, 0.0], [0.0, 0.0]]), np.array([0.25, 0.3])
    generator = torch.Generator().manual_seed(0)
    found = search_near(Flat().model, centers, radii, FLOOR, starts=8, steps=5, generator=generator)
    assert found.flawed.shape == (2, 8)
    assert found.flawed[0].all()
    assert not found.flawed[1].any()
    assert found.queries == 16 * 11
    assert (np.linalg.norm(found.states - centers[0], axis=1) <= 0.25 + 1e-9).all()
    assert Flat().is_flaw(found.states).all()


def policies(folder: Path) -> Path:
    """Three policies: the nearer to the origin, the better."""
    folder.mkdir()
    for name, away, gain in (("good", 0.05, 9.0), ("fair", 0.2, 5.0), ("poor", 0.4, 1.0)):
        np.savez(
            folder / f"{name}.npz",
            states=np.full((20, 2), away),
            ep_len=np.array([10, 10]),
            ep_ret=np.array([gain, gain]),
        )
    return folder


def test_ordering_refuses_what_turns_graded_policies_round(tmp_path: Path) -> None:
    gate = Ordering(OrderingOptions(path=str(policies(tmp_path / "graded"))))
    kept = judged(gate, Hill(), kernels([0.9, 0.9], 0.3, 5.0))
    assert kept.ok
    assert (kept.numbers["before"], kept.numbers["drop"]) == (1.0, 0.0)
    turned = judged(gate, Hill(), kernels([0.05, 0.05], 0.1, 1.0))
    assert not turned.ok
    assert turned.numbers["after"] < 0
    levelled = judged(gate, Hill(), kernels([0.0, 0.0], 5.0, 1e3))
    assert not levelled.ok
    assert "no longer told apart" in levelled.reason


def test_ordering_reads_one_file_of_graded_episodes(tmp_path: Path) -> None:
    file = tmp_path / "episodes.npz"
    states = np.repeat([[0.05, 0.05], [0.2, 0.2], [0.4, 0.4]], 5, axis=0)
    np.savez(file, states=states, ep_len=np.array([5, 5, 5]), ep_ret=np.array([3.0, 2.0, 1.0]))
    gate = Ordering(OrderingOptions(path=str(file)))
    assert judged(gate, Hill(), kernels([0.9, 0.9], 0.3, 5.0)).numbers["policies"] == 3
    assert not judged(gate, Hill(), kernels([0.05, 0.05], 0.1, 1.0)).ok
    np.savez(file, states=states, ep_len=np.array([5, 5, 5]), ep_ret=np.ones(3))
    with pytest.raises(DataError, match="fewer than two"):
        graded(file, 2)
    np.savez(file, states=states)
    with pytest.raises(DataError, match="tells no true return"):
        graded(file, 2)


def test_trainable_refuses_a_reward_that_is_flat_on_the_way() -> None:
    gate = Trainable(TrainableOptions())
    kept = judged(gate, Hill(), kernels([[0.9, 0.9], [-0.9, 0.9]], 0.3, 5.0))
    assert kept.ok
    assert kept.numbers["flat_before"] < 0.1
    assert kept.numbers["places"] > 1000
    plateau = judged(gate, Hill(), kernels([0.3, 0.3], 0.5, 1e6))
    assert not plateau.ok
    assert "places that are flat rises from" in plateau.reason
    # A bump on the way is not flat, and points away from the demonstrations.
    bump = attrs.evolve(kernels([0.35, 0.0], 0.4, 1.0), effect="lift")
    assert "not uphill rises" in judged(gate, Hill(), bump).reason


def test_budget_counts_corrections_and_operations() -> None:
    small = kernels([[0.9, 0.9]] * 3, 0.3, 1.0)
    assert judged(Budget(BudgetOptions(max_corrections=3)), Flat(), small).ok
    many = judged(Budget(BudgetOptions(max_corrections=2)), Flat(), small)
    assert many.reason == "3 corrections are more than 2"
    # Five expert states of two features, and three kernels of four numbers.
    said = judged(Budget(BudgetOptions(max_ratio=2.0)), Flat(), small)
    assert said.numbers["ratio"] == pytest.approx((10 + 12) / 10)
    assert "costs 2.2 times" in said.reason
    touching = judged(Budget(BudgetOptions()), Flat(), kernels([[0.0, 0.0]] * 2, 5.0, 1e-6))
    assert touching.numbers["touched"] == 2


@pytest.mark.parametrize(
    "gate",
    [
        Collateral(CollateralOptions()),
        LocalRedTeam(LocalRedTeamOptions(budget=2000)),
        Trainable(TrainableOptions()),
        Budget(BudgetOptions()),
    ],
    ids=lambda gate: type(gate).__name__,
)
def test_a_gate_repeats_itself(gate: Any) -> None:
    first, second = (judged(gate, Flat(), kernels([0.8, 0.8], 0.4, 5.0)) for _ in range(2))
    assert dict(first.numbers) == dict(second.numbers)
