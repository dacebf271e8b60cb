"""Refiners: they close flaws, spare known-good states, and leave the former model as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

import iirl_engine as iirl
from iirl_engine.audit import verify
from iirl_engine.builtin.gates import KnownGood
from iirl_engine.builtin.norms import BoxNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, KnownGoodOptions, SupportOptions
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.records import AuditResult
from iirl_engine.support import Support
from iirl_engine.testing.worlds import Given, OneMinus
from iirl_refiners.balls import Balls, Spared, cover, inside, profiles, touching
from iirl_refiners.fades import Envelope, NormMask
from iirl_refiners.greedy import KernelGreedy
from iirl_refiners.lp import KernelLp
from iirl_refiners.merge import Merge
from iirl_refiners.options import (
    EnvelopeOptions,
    KernelGreedyOptions,
    KernelLpOptions,
    MergeOptions,
    NormMaskOptions,
)
from iirl_refiners.program import Solution, pruned, reduced_costs, solve

FLOOR = 0.01
CONTEXT = iirl.Context("refine", "r", 0, 1)


def flat(states: Tensor) -> Tensor:
    """A reward of 0.6 everywhere."""
    return 0 * states.sum(dim=1) + 0.6


def world() -> iirl.RewardModel:
    """Experts on a line, allowed up to 0.5 from it, and a wall across half of the domain."""
    expert = check(np.column_stack([np.linspace(-0.8, 0.8, 33), np.zeros(33)]))
    norms: dict[str, Any] = {
        "support": SupportNorm(SupportOptions(boundary=0.5)),
        "wall": BoxNorm(BoxOptions(features=("x1",), low=(0.3,), high=(9.0,), forbid=True)),
    }
    for name, norm in norms.items():
        norm.fit(expert, iirl.Context("norm", name, 0, 0))
    domain = iirl.Domain((-1.0, -1.0), (1.0, 1.0))
    return iirl.RewardModel(Given(flat), OneMinus(NoOptions()), norms, expert, domain)


def repair(model: iirl.RewardModel, good: np.ndarray | None = None, count: int = 400) -> Any:
    states = np.random.default_rng(1).uniform(-1, 1, (count, 2))
    result = AuditResult("a", "findings", states, count, 0.0)
    flaws = verify([result], model, FLOOR, ())[0].new
    if good is None:
        x, y = np.meshgrid(np.linspace(-0.8, 0.8, 17), np.linspace(-0.2, 0.2, 5))
        good = np.column_stack([x.ravel(), y.ravel()])
    return iirl.Repair(model, flaws, np.empty((0, 2)), good, model(good), FLOOR)


REFINERS: list[tuple[Any, Any]] = [
    (NormMask, NormMaskOptions()),
    (KernelLp, KernelLpOptions()),
    (KernelGreedy, KernelGreedyOptions(max_corrections=1000)),
]


def proposed(refiner: Any, asked: Any) -> Any:
    said = refiner.propose(asked, CONTEXT)
    return said.corrections if isinstance(said, iirl.Proposal) else said


@pytest.mark.parametrize(("cls", "options"), REFINERS)
class TestEveryRefiner:
    def test_it_closes_most_flaws_and_keeps_the_cap(self, cls: Any, options: Any) -> None:
        asked = repair(world())
        mended = asked.model.with_corrections(proposed(cls(options), asked))
        still_open = (mended(asked.flaws.states) > FLOOR).mean()
        assert still_open <= (0.0 if cls is not KernelGreedy else 0.2)
        assert (asked.original - mended(asked.known_good)).max() <= 0.10 + 1e-9

    def test_the_former_model_stays_as_it_was(self, cls: Any, options: Any) -> None:
        asked = repair(world())
        before = asked.model(asked.flaws.states)
        mended = asked.model.with_corrections(proposed(cls(options), asked))
        assert np.array_equal(asked.model(asked.flaws.states), before)
        assert not np.array_equal(mended(asked.flaws.states), before)

    def test_one_seed_proposes_the_same(self, cls: Any, options: Any) -> None:
        first, second = (proposed(cls(options), repair(world())) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert one.describe() == other.describe()
            for name, array in one.tensors().items():
                assert np.array_equal(other.tensors()[name], array)

    def test_every_correction_has_its_own_id(self, cls: Any, options: Any) -> None:
        corrections = proposed(cls(options), repair(world()))
        assert len({c.id for c in corrections}) == len(corrections) > 0


def test_the_envelope_ends_the_reward_at_the_boundary_and_nowhere_within() -> None:
    asked = repair(world())
    (correction,) = Envelope(EnvelopeOptions()).propose(asked, CONTEXT)
    mended = asked.model.with_corrections([correction])
    states = np.column_stack([np.zeros(3), [0.3999, 0.45, 0.5]])
    assert mended(states).tolist() == pytest.approx([0.6, 0.3, 0.0], abs=1e-3)


def test_the_envelope_narrows_to_spare_known_good_states_at_the_boundary() -> None:
    good = np.array([[0.0, -0.499]])
    asked = repair(world(), good)
    (correction,) = Envelope(EnvelopeOptions()).propose(asked, CONTEXT)
    mended = asked.model.with_corrections([correction])
    loss = asked.original - mended(good)
    assert 0.05 < loss[0] <= 0.10


def test_the_envelope_takes_given_distances_and_refuses_wider_ones_than_the_norm() -> None:
    asked = repair(world())
    options = EnvelopeOptions(inner=0.2, outer=0.4)
    (correction,) = Envelope(options).propose(asked, CONTEXT)
    mended = asked.model.with_corrections([correction])
    assert mended(np.array([[0.0, 0.2], [0.0, 0.3], [0.0, 0.4]])).tolist() == pytest.approx(
        [0.6, 0.3, 0.0]
    )
    with pytest.raises(iirl.DataError, match="must not exceed"):
        Envelope(EnvelopeOptions(outer=0.6)).propose(asked, CONTEXT)


def test_nothing_is_proposed_twice() -> None:
    asked = repair(world())
    mended = asked.model.with_corrections(NormMask(NormMaskOptions()).propose(asked, CONTEXT))
    assert NormMask(NormMaskOptions()).propose(repair(mended), CONTEXT) == []


def test_fades_at_two_limits_share_the_allowance() -> None:
    """A state near both limits loses to both fades, together no more than the cap."""
    good = np.array([[0.0, 0.29], [0.0, -0.45], [0.79, 0.29], [0.0, 0.0]])
    asked = repair(world(), good)
    mended = asked.model.with_corrections(NormMask(NormMaskOptions()).propose(asked, CONTEXT))
    assert (asked.original - mended(good)).max() <= 0.10 + 1e-9


@pytest.mark.parametrize(
    ("refiner", "said"),
    [
        (Envelope(EnvelopeOptions(norm="nothing")), "'nothing'"),
        (NormMask(NormMaskOptions(norms=("nothing",))), "nothing"),
    ],
)
def test_an_unknown_norm_is_named(refiner: Any, said: str) -> None:
    with pytest.raises(iirl.DataError, match=said):
        refiner.propose(repair(world()), CONTEXT)


def test_the_greedy_rule_breaks_the_cap_over_rounds_and_the_gate_notices() -> None:
    good = np.array([[0.0, 0.0], [0.0, 0.25]])
    first = world()
    asked = repair(first, good, count=4000)
    nearest = np.argsort(np.linalg.norm(asked.flaws.states - good[1], axis=1))[:60]
    flaws = asked.flaws.take(nearest)
    model, worst = first, []
    for round_ in range(1, 9):
        left = iirl.Repair(model, flaws, asked.closed, good, asked.original, FLOOR)
        refiner = KernelGreedy(KernelGreedyOptions(max_corrections=4))
        context = iirl.Context("refine", "kernel-greedy", 0, round_)
        before = model(good)
        model = model.with_corrections(refiner.propose(left, context))
        worst.append((before - model(good)).max())
    assert max(worst) <= 0.10 + 1e-9
    evidence = iirl.Evidence(
        first, flaws, np.ones(len(flaws), bool), good, asked.original, FLOOR, ""
    )
    judged = KnownGood(KnownGoodOptions()).judge(
        iirl.Candidate(8, (), model), evidence, iirl.Context("gate", "known-good", 0, 8)
    )
    assert judged.numbers["worst_loss"] > 0.10
    assert not judged.ok
    assert "lose more than 0.1:" in judged.reason


def test_a_cover_covers_every_point_with_few_balls_that_hold_no_good_state() -> None:
    generator = np.random.default_rng(0)
    good = np.column_stack([np.linspace(0, 1, 21), np.zeros(21)])
    points = generator.uniform((0, -1), (1, 1), (20_000, 2))
    points = points[np.abs(points[:, 1]) > 0.02]
    spared = Spared(np.empty((0, 2)), np.empty(0))
    balls = cover(points, points[:0], Support(good), spared, 0.9, 1e-3, 999, generator)
    assert inside(points, balls.scaled(0.9)).any(axis=0).all()
    assert not inside(good, balls.scaled(1 - 1e-9)).any()
    assert len(balls.radii) < 100


def test_balls_spare_what_is_allowed_where_others_do_as_well() -> None:
    """Of two halves that flaws fill, one holds allowed states too: its balls are smaller."""
    generator = np.random.default_rng(0)
    points = np.column_stack([generator.uniform(0.5, 0.9, 200), generator.uniform(-1, 1, 200)])
    allowed = np.column_stack([generator.uniform(1.0, 3.0, 500), generator.uniform(-1, 1, 500)])
    good = Support(np.zeros((1, 2)))
    nobody = Spared(np.empty((0, 2)), np.empty(0))
    taken = []
    for spared in (nobody, Spared(allowed, np.ones(500))):
        balls = cover(points, points[:0], good, spared, 0.9, 1e-3, 999, generator)
        assert inside(points, balls.scaled(0.9)).any(axis=0).all()
        taken.append(inside(allowed, balls).any(axis=0).mean())
    assert taken[0] > 0.5
    assert taken[1] < taken[0] / 2


def test_balls_around_a_site_are_of_many_scales() -> None:
    balls = touching(np.array([[0.5, 0.0]]), Support(np.zeros((1, 2))), 0.9, 1e-3)
    assert sorted(balls.radii) == pytest.approx([0.25, 0.5, 0.75, 1.0, 2.0, 4.0])
    assert inside(np.array([[0.5, 0.0]]), balls.scaled(0.9)).all()
    assert not inside(np.zeros((1, 2)), balls.scaled(1 - 1e-9)).any()


def test_profiles_by_products_are_the_kernels_own() -> None:
    generator = np.random.default_rng(0)
    points = 1e3 + generator.standard_normal((500, 16))
    balls = Balls(1e3 + generator.standard_normal((40, 16)), generator.uniform(1, 9, 40))
    kernels = iirl.Kernels(id="all", refiner="", round=0, strengths=np.ones(40), **balls._asdict())
    exact = kernels.profiles(torch.tensor(points)).numpy()
    assert profiles(points, balls).toarray() == pytest.approx(exact, abs=1e-9)
    assert 0 < np.count_nonzero(exact) < exact.size


def program(closing: Any, needed: Any, costing: Any, allowed: Any, **changes: Any) -> Solution:
    matrices = [sparse.csr_array(np.array(m)) for m in (closing, costing)]
    given: dict[str, Any] = {"margin": 0.1, "prices": np.ones(len(closing[0])), "strongest": 100.0}
    given |= changes
    return solve(
        matrices[0],
        np.array(needed),
        given["margin"],
        matrices[1],
        np.array(allowed),
        given["prices"],
        given["strongest"],
    )


def test_the_program_spends_least_and_never_more_than_allowed() -> None:
    closing, costing = [[1.0, 0.5], [0.0, 0.5]], [[0.0, 0.1]]
    free = program(closing, [0.9, 0.3], costing, [1.0])
    assert free.strengths.tolist() == pytest.approx([0.6, 0.8])
    assert free.at_caps.tolist() == [0.0]
    tight = program(closing, [0.9, 0.3], costing, [0.05])
    # The second flaw loses its margin, and what it still lacks stays open.
    assert tight.strengths.tolist() == pytest.approx([0.75, 0.5])
    assert tight.at_flaws[1] > tight.at_flaws[0] > 0
    assert tight.at_caps[0] > 0


def test_no_kernel_is_stronger_than_the_strongest() -> None:
    assert program([[0.5]], [0.9], [[0.0]], [1.0], strongest=1.5).strengths.tolist() == [1.5]


def test_thousands_of_flaws_join_the_program_as_they_are_needed() -> None:
    """Nobody but the last flaw sees the second kernel: it joins the program, and is closed."""
    closing = np.zeros((3000, 2))
    closing[:-1, 0] = closing[-1, 1] = 1.0
    found = program(closing, np.full(3000, 0.5), [[0.0, 0.0]], [1.0])
    assert found.strengths.tolist() == pytest.approx([0.6, 0.6])


def test_a_kernel_is_priced_by_what_it_saves_and_what_caps_it_strains() -> None:
    solution = program([[0.1]], [0.9], [[0.1]], [0.01])
    offered = sparse.csr_array(np.array([[1.0, 1.0, 0.0]]))
    strained = sparse.csr_array(np.array([[0.0, 1.0, 0.0]]))
    costs = reduced_costs(solution, offered, strained, np.ones(3), 100.0)
    assert costs[0] < costs[1] <= costs[2]
    assert costs[2] == pytest.approx(0.01)


def test_pruning_leaves_every_flaw_what_it_needs() -> None:
    closing = sparse.csr_array(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.2]]))
    prices, strengths = np.array([3.0, 1.0, 2.0]), np.array([0.6, 0.7, 0.1])
    kept = pruned(closing, np.array([0.5, 0.5]), strengths, prices)
    assert kept.tolist() == [0.0, 0.7, 0.0]
    # What was short before loses nothing.
    kept = pruned(closing, np.array([0.5, 2.0]), strengths, prices)
    assert kept.tolist() == [0.0, 0.7, 0.1]


def test_a_flaw_near_a_known_good_state_closes_within_its_cap_or_is_told() -> None:
    """A reward of 0.6 and a known-good state 1e-6 away: only a cap above 0.59 lets it close."""
    asked = repair(world())
    good = np.concatenate([asked.known_good, asked.flaws.states[:3] + 1e-6])
    asked = iirl.Repair(asked.model, asked.flaws, asked.closed, good, asked.model(good), FLOOR)
    for cap, left in ((0.05, [0, 1, 2]), (0.595, [])):
        said = KernelLp(KernelLpOptions(max_loss=cap)).propose(asked, CONTEXT)
        mended = asked.model.with_corrections(said.corrections)
        still_open = np.flatnonzero(mended(asked.flaws.states) > FLOOR)
        assert list(said.left) == still_open.tolist() == left
        assert said.closes == len(asked.flaws) - len(left)
        loss = asked.original - mended(good)
        assert said.worst_loss == pytest.approx(loss.max())
        assert said.mean_loss == pytest.approx(loss.mean())
        assert loss.max() <= cap
        for row in left:
            number = len(good) - 3 + row
            assert f"the cap of known-good state {number}, " in said.left[row]
            assert said.left[row].startswith("needs 0.5")


def test_it_can_be_asked_twice_in_a_round() -> None:
    asked = repair(world())
    first = KernelLp(KernelLpOptions(max_corrections=3)).propose(asked, CONTEXT)
    model = asked.model.with_corrections(first.corrections)
    left = asked.flaws.take(list(first.left))
    again = iirl.Repair(model, left, asked.closed, asked.known_good, asked.original, FLOOR)
    second = KernelLp(KernelLpOptions()).propose(again, CONTEXT)
    assert second.closes == len(left) > 0


def test_flaws_beyond_the_last_kernel_are_told() -> None:
    asked = repair(world())
    said = KernelLp(KernelLpOptions(max_corrections=3)).propose(asked, CONTEXT)
    assert sum(c.count for c in said.corrections) <= 3
    mended = asked.model.with_corrections(said.corrections)
    still_open = np.flatnonzero(mended(asked.flaws.states) > FLOOR)
    assert len(still_open) > 0
    assert list(said.left) == still_open.tolist()
    assert all("the 3 kernels of the round are spent" in said.left[row] for row in said.left)


def test_what_cannot_be_closed_within_the_cap_stays_open() -> None:
    asked = repair(world())
    # Every flaw is a known-good state as well: nothing may be taken off.
    states = asked.flaws.states
    conflict = iirl.Repair(
        asked.model, asked.flaws, asked.closed, states, asked.model(states), FLOOR
    )
    said = KernelLp(KernelLpOptions(max_loss=0.05)).propose(conflict, CONTEXT)
    mended = conflict.model.with_corrections(said.corrections)
    assert (conflict.original - mended(conflict.known_good)).max() <= 0.05 + 1e-9
    assert len(said.left) == len(conflict.flaws)


def test_flaws_of_many_features_close_and_what_is_like_the_expert_keeps_its_reward() -> None:
    generator = np.random.default_rng(0)
    spread = generator.standard_normal((4, 64)) / 2
    expert = np.tanh(generator.standard_normal((300, 4)) @ spread)
    data = check(expert)
    norm = SupportNorm(SupportOptions(boundary="auto"))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    model = iirl.RewardModel(
        Given(flat),
        OneMinus(NoOptions()),
        {"support": norm},
        data,
        iirl.Domain((-1.5,) * 64, (1.5,) * 64),
    )

    def around(count: int) -> np.ndarray:
        noise = generator.standard_normal((count, 64)) * generator.uniform(0.3, 1.0, (count, 1))
        return np.clip(expert[generator.integers(300, size=count)] + noise, -1.5, 1.5)

    result = AuditResult("a", "findings", around(1000), 1000, 0.0)
    flaws = verify([result], model, FLOOR, ())[0].new
    asked = iirl.Repair(model, flaws, np.empty((0, 64)), expert, model(expert), FLOOR)
    said = KernelLp(KernelLpOptions()).propose(asked, CONTEXT)
    assert said.closes == len(flaws) > 100
    assert said.worst_loss <= 0.10
    mended = model.with_corrections(said.corrections)
    assert (mended(flaws.states) <= FLOOR).all()
    fresh = np.tanh(generator.standard_normal((1000, 4)) @ spread)
    assert mended(fresh).mean() >= 0.98 * model(fresh).mean()


def test_rewards_with_corrections_can_be_differentiated() -> None:
    asked = repair(world())
    proposed = [
        *Envelope(EnvelopeOptions()).propose(asked, CONTEXT),
        *KernelLp(KernelLpOptions()).propose(asked, CONTEXT).corrections,
    ]
    mended = asked.model.with_corrections(proposed)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(20, 2, dtype=torch.float64, generator=generator) / 4
    states.requires_grad_(True)
    assert torch.autograd.gradcheck(mended, (states,))


def greedily_mended(count: int = 400) -> Any:
    """What refiner `merge` is asked: a reward whose flaws one kernel each has closed."""
    asked = repair(world(), count=count)
    refiner = KernelGreedy(KernelGreedyOptions(max_corrections=1000))
    fade = Envelope(EnvelopeOptions()).propose(asked, CONTEXT)
    model = asked.model.with_corrections([*proposed(refiner, asked), *fade])
    is_open = model(asked.flaws.states) > FLOOR
    return iirl.Repair(
        model,
        asked.flaws.take(np.flatnonzero(is_open)),
        asked.flaws.states[~is_open],
        asked.known_good,
        asked.original,
        FLOOR,
    )


def after(asked: Any, said: iirl.Proposal) -> iirl.RewardModel:
    kept = [c for c in asked.model.corrections if c.id not in said.replaces]
    return asked.model.evolve(corrections=(*kept, *said.corrections))


def test_merged_kernels_are_fewer_and_reopen_nothing() -> None:
    asked = greedily_mended()
    (many, _) = asked.model.corrections
    said = Merge(MergeOptions()).propose(asked, iirl.Context("refine", "merge", 0, 2))
    assert said.replaces == (many.id,)
    (few,) = said.corrections
    assert few.count < many.count / 2
    merged = after(asked, said)
    assert (merged(asked.closed) <= FLOOR).all()
    loss = asked.original - merged(asked.known_good)
    assert loss.max() <= 0.10 + 1e-9
    assert said.worst_loss == pytest.approx(loss.max())
    assert said.mean_loss == pytest.approx(loss.mean())
    still_open = merged(asked.flaws.states) > FLOOR
    assert said.closes == (~still_open).sum()
    fresh = np.random.default_rng(9).uniform(-1, 1, (20_000, 2))
    silent = (asked.model(fresh) <= FLOOR) & (
        asked.model.violation(torch.tensor(fresh)).numpy() > 0
    )
    assert silent.sum() > 5000
    assert (merged(fresh[silent]) > FLOOR).mean() <= 0.005


def test_what_fades_close_and_what_lifts_is_not_merged() -> None:
    asked = greedily_mended()
    fade = asked.model.corrections[-1]
    lift = iirl.Kernels(
        id="lift",
        refiner="",
        round=1,
        centers=np.zeros((3, 2)),
        radii=np.full(3, 0.1),
        strengths=np.full(3, 0.1),
        effect="lift",
    )
    for kept in ([fade], [lift]):
        model = asked.model.evolve(corrections=kept)
        said = Merge(MergeOptions()).propose(
            iirl.Repair(model, asked.flaws, asked.closed, asked.known_good, asked.original, FLOOR),
            CONTEXT,
        )
        assert said.corrections == said.replaces == ()


def test_kernels_stay_where_the_cap_leaves_no_other() -> None:
    """Known-good states have lost all that may be lost; what replaces kernels takes no more."""
    asked = greedily_mended()
    lost = asked.original - asked.model(asked.known_good)
    said = Merge(MergeOptions(max_loss=0.0)).propose(asked, CONTEXT)
    merged = after(asked, said)
    assert (asked.original - merged(asked.known_good) <= lost + 1e-9).all()
    assert (merged(asked.closed) <= FLOOR).all()
