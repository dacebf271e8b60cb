"""Refiner `contrast`: the reward fitted anew with flaws as negatives closes more than these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from iirl_encoders.energy import Energy
from iirl_encoders.kernel_mean import KernelMean
from iirl_encoders.mappings import Exp
from iirl_encoders.mmd_witness import MmdWitness
from iirl_encoders.options import (
    EnergyOptions,
    ExpOptions,
    KernelMeanOptions,
    MmdWitnessOptions,
)
from iirl_engine import (
    Abilities,
    Code,
    Context,
    DataError,
    Demonstrations,
    Encoder,
    Proposal,
    Repair,
    RewardModel,
)
from iirl_engine.audit import verify
from iirl_engine.builtin.norms import BoxNorm
from iirl_engine.builtin.options import BoxOptions
from iirl_engine.corrections.restore import as_released
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.options import NoOptions
from iirl_engine.propose import check_needs
from iirl_engine.records import AuditResult
from iirl_engine.testing.worlds import OneMinus
from iirl_refiners.contrast import Contrast, with_negatives
from iirl_refiners.options import ContrastOptions

RNG = np.random.default_rng(0)
GOOD = RNG.normal(0, 0.3, (300, 3))
# Negatives lie on one side alone; on the other the reward knows nothing.
DATA = check(GOOD, negatives=RNG.normal(0, 0.3, (100, 3)) - np.array([2.0, 0.0, 0.0]))
REGION = RNG.normal(0, 0.15, (2000, 3)) + np.array([3.0, 0.0, 0.0])
KNOWN = 50
FLOOR = 0.01
CONTEXT = Context("refine", "contrast", 0, 1)


def learned(cls: Any, options: Any, data: Any = DATA) -> RewardModel:
    encoder, mapping = cls(options), Exp(ExpOptions(l_min=0.0, l_max=1.0))
    encoder.fit(data, Context("encoder", "e", 0, 0))
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, Context("mapping", "m", 0, 0))
    wall = BoxNorm(BoxOptions(features=("x0",), low=(-9.0,), high=(1.0,)))
    wall.fit(data, Context("norm", "wall", 0, 0))
    return RewardModel(
        encoder, mapping, {"wall": wall}, data, widened_range(np.concatenate([GOOD, REGION]))
    )


def repair_of(model: RewardModel) -> Repair:
    flaws = REGION[:KNOWN]
    result = AuditResult("look", "findings", flaws, KNOWN, 0.0)
    (verified,) = verify([result], model, FLOOR, ())
    return Repair(
        model=model,
        flaws=verified.new,
        closed=np.empty((0, 3)),
        known_good=GOOD,
        original=model(GOOD),
        floor=FLOOR,
    )


def test_few_flaws_as_negatives_close_their_region() -> None:
    model = learned(Energy, EnergyOptions())
    assert (model(REGION) > FLOOR).mean() > 0.9
    repair = repair_of(model)
    found = Contrast(ContrastOptions()).propose(repair, CONTEXT)
    mended = model.with_corrections([as_released(c) for c in found.corrections])
    assert [c.kind for c in mended.corrections] == ["revision", "sculpt"]
    # What was expected came true, held-out states of the region close, and nothing good is lost.
    assert found.closes == len(repair.flaws)
    assert (mended(repair.flaws.states) <= FLOOR).all()
    assert (mended(REGION[KNOWN:]) <= FLOOR).mean() >= 0.95
    losses = model(GOOD) - mended(GOOD)
    assert losses.max() == pytest.approx(found.worst_loss)
    assert losses.max() <= 0.10
    # Without the corrections the reward is what it was, to the bit.
    assert np.array_equal(mended.evolve(corrections=())(REGION), model(REGION))


def test_the_same_seed_refits_alike() -> None:
    model = learned(Energy, EnergyOptions(steps=50))
    one, two = (
        Contrast(ContrastOptions(share=0.5, max_loss=1.0)).propose(repair_of(model), CONTEXT)
        for _ in range(2)
    )
    for a, b in zip(one.corrections, two.corrections, strict=True):
        assert all(np.array_equal(a.tensors()[k], b.tensors()[k]) for k in a.tensors())


def test_a_refit_that_costs_too_much_is_not_proposed() -> None:
    near = REGION - np.array([1.4, 0.0, 0.0])
    model = learned(MmdWitness, MmdWitnessOptions(background=1e-3))
    result = AuditResult("look", "findings", near[:KNOWN], KNOWN, 0.0)
    (verified,) = verify([result], model, FLOOR, ())
    repair = attrs.evolve(repair_of(model), flaws=verified.new)
    assert len(repair.flaws) == KNOWN
    found = Contrast(ContrastOptions()).propose(repair, CONTEXT)
    assert isinstance(found, Proposal)
    assert not found.corrections
    assert set(found.left) == set(range(KNOWN))
    assert "max_loss" in found.left[0]


class Swaying(Encoder[NoOptions]):
    """Confused by a few negatives: all lose 0.3 of reward. By many only those beyond the wall."""

    abilities = Abilities(negatives="required")

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        weights = demonstrations.negative_weights
        self.share = 0.0 if weights is None else weights[100:].sum() / weights.sum()

    def encode(self, states: torch.Tensor) -> Code:
        beyond = (states[:, 0] > 1).to(states.dtype)
        lost = 0.3 + 0.2 * beyond if 0 < self.share < 0.6 else beyond * (self.share > 0)
        return Code(states, 0.5 + 0 * states.sum(dim=1) + lost)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"share": torch.tensor(self.share)}

    def restore(self, tensors: Mapping[str, torch.Tensor], demonstrations: Demonstrations) -> None:
        self.share = float(tensors["share"])


def test_a_weight_that_costs_too_much_is_passed_over_for_a_heavier_one() -> None:
    encoder = Swaying(NoOptions())
    encoder.fit(DATA, CONTEXT)
    model = learned(MmdWitness, MmdWitnessOptions()).evolve(
        encoder=encoder, mapping=OneMinus(NoOptions())
    )
    repair = repair_of(model)
    assert len(repair.flaws) == KNOWN
    # The three lightest would close every flaw and cost every demonstration 0.3.
    for share in (0.1, 0.25, 0.5):
        assert not Contrast(ContrastOptions(share=share)).propose(repair, CONTEXT).corrections
    found = Contrast(ContrastOptions()).propose(repair, CONTEXT)
    assert (found.closes, found.worst_loss) == (KNOWN, 0.0)
    assert found.corrections[0].tensors()["encoder.share"] == pytest.approx(0.75)


def test_an_encoder_that_ignores_negatives_is_refused() -> None:
    class Entry:
        qualified = "iirl-refiners:contrast"

    class Step:
        id, entry = "contrast", Entry

    model = learned(KernelMean, KernelMeanOptions())
    with pytest.raises(DataError, match="learns from negatives"):
        check_needs([(Step, Contrast(ContrastOptions()))], model)  # type: ignore[list-item]


def test_flaws_get_their_share_of_the_weight_and_the_others_keep_theirs() -> None:
    data = with_negatives(DATA, REGION[:KNOWN], 0.75)
    assert data.negative_weights is not None
    assert data.negative_weights[100:].sum() / data.negative_weights.sum() == pytest.approx(0.75)
    assert (data.negative_weights[:100] == 1).all()
    assert np.array_equal(data.negatives[100:], REGION[:KNOWN])
