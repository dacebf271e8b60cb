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
from iirl_engine.testing.worlds import Given, OneMinus
from iirl_refiners.fades import Envelope, NormMask
from iirl_refiners.greedy import KernelGreedy
from iirl_refiners.lp import KernelLp, cover, strengths_by_program
from iirl_refiners.options import (
    EnvelopeOptions,
    KernelGreedyOptions,
    KernelLpOptions,
    NormMaskOptions,
)

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


@pytest.mark.parametrize(("cls", "options"), REFINERS)
class TestEveryRefiner:
    def test_it_closes_most_flaws_and_keeps_the_cap(self, cls: Any, options: Any) -> None:
        asked = repair(world())
        mended = asked.model.with_corrections(cls(options).propose(asked, CONTEXT))
        still_open = (mended(asked.flaws.states) > FLOOR).mean()
        assert still_open <= (0.0 if cls is not KernelGreedy else 0.2)
        assert (asked.original - mended(asked.known_good)).max() <= 0.10 + 1e-9

    def test_the_former_model_stays_as_it_was(self, cls: Any, options: Any) -> None:
        asked = repair(world())
        before = asked.model(asked.flaws.states)
        mended = asked.model.with_corrections(cls(options).propose(asked, CONTEXT))
        assert np.array_equal(asked.model(asked.flaws.states), before)
        assert not np.array_equal(mended(asked.flaws.states), before)

    def test_one_seed_proposes_the_same(self, cls: Any, options: Any) -> None:
        first, second = (cls(options).propose(repair(world()), CONTEXT) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert one.describe() == other.describe()
            for name, array in one.tensors().items():
                assert np.array_equal(other.tensors()[name], array)

    def test_every_correction_has_its_own_id(self, cls: Any, options: Any) -> None:
        proposed = cls(options).propose(repair(world()), CONTEXT)
        assert len({c.id for c in proposed}) == len(proposed) > 0


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


def test_a_cover_covers_every_point_with_few_balls() -> None:
    points = np.random.default_rng(0).uniform(size=(500, 2))
    radii = np.full(500, 0.2)
    chosen = cover(points, radii, 0.75)
    apart = np.linalg.norm(points[:, None] - points[chosen][None], axis=2)
    assert (apart.min(axis=1) <= 0.15).all()
    assert len(chosen) < 60


def test_the_program_spends_least_and_never_more_than_allowed() -> None:
    generator = np.random.default_rng(0)
    closing = sparse.csr_array(np.array([[1.0, 0.5], [0.0, 0.5]]))
    costing = sparse.csr_array(np.array([[0.0, 0.1]]))
    strengths = strengths_by_program(
        closing, np.array([1.0, 0.4]), costing, np.array([1.0]), generator
    )
    assert strengths.tolist() == pytest.approx([0.6, 0.8])
    tight = strengths_by_program(
        closing, np.array([1.0, 0.4]), costing, np.array([0.05]), generator
    )
    assert costing @ tight <= 0.05 + 1e-9
    assert tight.tolist() == pytest.approx([0.75, 0.5])


def test_what_cannot_be_closed_within_the_cap_stays_open() -> None:
    asked = repair(world())
    # Every flaw is a known-good state as well: nothing may be taken off.
    conflict = iirl.Repair(
        asked.model,
        asked.flaws,
        asked.closed,
        asked.flaws.states,
        asked.model(asked.flaws.states),
        FLOOR,
    )
    proposed = KernelLp(KernelLpOptions(max_loss=0.05)).propose(conflict, CONTEXT)
    mended = conflict.model.with_corrections(proposed)
    assert (conflict.original - mended(conflict.known_good)).max() <= 0.05 + 1e-9


def test_rewards_with_corrections_can_be_differentiated() -> None:
    asked = repair(world())
    proposed = [
        *Envelope(EnvelopeOptions()).propose(asked, CONTEXT),
        *KernelLp(KernelLpOptions()).propose(asked, CONTEXT),
    ]
    mended = asked.model.with_corrections(proposed)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(20, 2, dtype=torch.float64, generator=generator) / 4
    states.requires_grad_(True)
    assert torch.autograd.gradcheck(mended, (states,))
