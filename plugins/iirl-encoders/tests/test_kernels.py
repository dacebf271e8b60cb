"""Kernel encoders: exact sums at any distance, the closed form of eq. 2, and exact unlearning."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

import iirl_engine as iirl
from iirl_encoders import kernels
from iirl_encoders.kernel_mean import KernelMean
from iirl_encoders.mappings import Exp
from iirl_encoders.mmd_witness import MmdWitness
from iirl_encoders.options import ExpOptions, KernelMeanOptions, MmdWitnessOptions
from iirl_encoders.scale import Scale
from iirl_engine.demonstrations import check, read_only, take

CONTEXT = iirl.Context("encoder", "e", 0, 0)
RANDOM = np.random.default_rng(0)
EXPERT = RANDOM.normal(size=(120, 3)) * [1.0, 5.0, 0.2] + [0.0, 30.0, 1.0]
NEGATIVE = RANDOM.normal(size=(80, 3)) * [1.0, 5.0, 0.2] + [3.0, 20.0, 1.0]
DATA = check(EXPERT, negatives=NEGATIVE)
PROBES = torch.tensor(np.concatenate([EXPERT[:10], NEGATIVE[:10], 2 * EXPERT[10:20]]))
ENCODERS = [
    (KernelMean, KernelMeanOptions()),
    (KernelMean, KernelMeanOptions(widths=(0.3, 1.0), centers=50)),
    (KernelMean, KernelMeanOptions(widths=(0.2, 0.5, 1.0), select="held-out")),
    (KernelMean, KernelMeanOptions(features=256)),
    (KernelMean, KernelMeanOptions(standardize=False)),
    (MmdWitness, MmdWitnessOptions()),
    (MmdWitness, MmdWitnessOptions(centers=40)),
    (MmdWitness, MmdWitnessOptions(standardize=False)),
]


def fitted(cls: Any, options: Any, data: Any = DATA) -> Any:
    encoder = cls(options)
    encoder.fit(data, CONTEXT)
    return encoder


def rewards(loss: torch.Tensor, steepness: float) -> torch.Tensor:
    mapping = Exp(ExpOptions(steepness=steepness, l_min=0.0, l_max=1.0))
    mapping.fit(loss, CONTEXT)
    return mapping.map(loss)


def centers(count: int = 50, width: int = 3, seed: int = 0) -> kernels.Centers:
    generator = np.random.default_rng(seed)
    weights = generator.random(count) + 0.1
    return kernels.Centers(
        torch.tensor(generator.normal(size=(count, width))), torch.tensor(weights / weights.sum())
    )


def naive(some: kernels.Centers, states: np.ndarray, width: float) -> np.ndarray:
    apart = cdist(states, some.states.numpy(), "sqeuclidean")
    return np.asarray(np.exp(-apart / (2 * width**2)) @ some.weights.numpy())


class TestKernelSums:
    def test_they_are_the_sums(self) -> None:
        some, states = centers(), RANDOM.normal(size=(40, 3))
        found = some.log_means(torch.tensor(states), torch.tensor([0.3, 2.0], dtype=torch.float64))
        for column, width in enumerate((0.3, 2.0)):
            expected = np.log(naive(some, states, width))
            np.testing.assert_allclose(found[:, column].numpy(), expected, rtol=1e-12)

    def test_far_away_they_tell_the_distance_to_the_nearest_center(self) -> None:
        some = centers()
        state = torch.tensor([[1e5, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        value = some.log_means(state, torch.tensor([0.5]))[0, 0]
        apart = cdist(state.detach().numpy(), some.states.numpy()).min()
        assert value.item() == pytest.approx(-(apart**2) / (2 * 0.5**2), rel=1e-9)
        (gradient,) = torch.autograd.grad(value, state)
        assert gradient[0, 0].item() == pytest.approx(-apart / 0.5**2, rel=1e-4)

    def test_more_states_than_a_tile_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        some, widths = centers(), torch.tensor([0.5, 1.0])
        states = torch.tensor(RANDOM.normal(size=(500, 3)), requires_grad=True)
        whole = some.log_means(states, widths)
        (expected,) = torch.autograd.grad(whole.sum(), states)
        monkeypatch.setattr(kernels, "_TILE", 1000)
        monkeypatch.setattr(kernels, "_KEPT", 1000)
        tiled = some.log_means(states, widths)
        (found,) = torch.autograd.grad(tiled.sum(), states)
        torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    def test_a_gradient_needs_no_more_memory_than_is_kept(self) -> None:
        some = centers(2000)
        kept: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        states = torch.zeros(5000, 3, dtype=torch.float64, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            some.log_means(states, torch.tensor([1.0])).sum()
        assert sum(kept) < 5000 * 2000 / 10


class TestFourierMean:
    def test_the_error_is_as_documented(self) -> None:
        some, widths = centers(200), torch.tensor([0.7, 1.5])
        states = RANDOM.normal(size=(300, 3)) * 3
        exact = np.stack([naive(some, states, 0.7), naive(some, states, 1.5)], axis=1)
        errors = []
        for count in (100, 10_000):
            frequencies = kernels.drawn_frequencies(count, 3, widths, np.random.default_rng(0))
            estimate = kernels.FourierMean.of(some, frequencies, 2).log_means(torch.tensor(states))
            assert estimate.shape == (300, 2)
            errors.append(np.sqrt(np.mean((estimate.exp().numpy() - exact) ** 2)))
            assert errors[-1] < 1 / math.sqrt(count)  # half the frequencies for each width
        assert errors[1] < 0.3 * errors[0]

    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_every_width_has_frequencies(self, count: int) -> None:
        some, widths = centers(20), torch.tensor([0.7, 1.5])
        frequencies = kernels.drawn_frequencies(count, 3, widths, np.random.default_rng(0))
        shares = kernels.FourierMean.of(some, frequencies, 2).shares
        assert shares.sum(dim=0).tolist() == pytest.approx([1.0, 1.0])

    def test_frequencies_of_a_block_are_orthogonal(self) -> None:
        drawn = kernels.drawn_frequencies(7, 3, torch.tensor([1.0, 2.0]), np.random.default_rng(0))
        assert drawn.shape == (7, 3)
        gram = (drawn[:3] @ drawn[:3].T).numpy()
        np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-12)


class TestDrawnRows:
    def test_added_rows_leave_the_order_of_the_others(self) -> None:
        few, more = (
            kernels.drawn_rows(None, n, n, np.random.default_rng(3))[0].tolist() for n in (50, 80)
        )
        assert [row for row in more if row < 50] == few

    def test_weights_become_shares_and_weight_0_is_left_out(self) -> None:
        weights = np.array([1.0, 0.0, 3.0])
        rows, shares = kernels.drawn_rows(weights, 3, 3, np.random.default_rng(0))
        assert dict(zip(rows.tolist(), shares.tolist(), strict=True)) == {0: 0.25, 2: 0.75}


def test_the_typical_distance_is_the_median_of_those_that_differ() -> None:
    states = np.concatenate([EXPERT, EXPERT])
    apart = pdist(states)
    found = kernels.typical_distance(torch.tensor(states))
    assert found == pytest.approx(np.median(apart[apart > 0]), rel=1e-2)
    assert kernels.typical_distance(torch.zeros(5, 8)) == 4.0


@pytest.mark.parametrize(("cls", "options"), ENCODERS)
class TestEveryKernelEncoder:
    def test_the_loss_can_be_differentiated(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        states = PROBES[::3].clone().requires_grad_(True)
        assert torch.autograd.gradcheck(lambda s: encoder.encode(s).loss, (states,))

    def test_rows_do_not_depend_on_their_batch(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        together = encoder.encode(PROBES).loss
        alone = torch.cat([encoder.encode(row[None]).loss for row in PROBES])
        torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-11)
        assert encoder.encode(PROBES[:0]).loss.shape == (0,)

    def test_it_survives_a_release_bit_for_bit(self, cls: Any, options: Any) -> None:
        encoder, again = fitted(cls, options), cls(options)
        again.restore(encoder.tensors(), attrs.evolve(DATA, negatives=DATA.negatives[:0]))
        assert torch.equal(again.encode(PROBES).loss, encoder.encode(PROBES).loss)
        before, after = (one.uncertainty(PROBES) for one in (encoder, again))
        assert after is None if before is None else torch.equal(before, after)

    def test_unlearning_is_the_fit_on_the_rest(self, cls: Any, options: Any) -> None:
        rest = attrs.evolve(
            take(DATA, np.arange(len(EXPERT)) % 3 > 0), negatives=read_only(NEGATIVE[:50])
        )
        expected = fitted(cls, options, rest).encode(PROBES).loss
        encoder, again = fitted(cls, options), cls(options)
        again.restore(encoder.tensors(), DATA)
        assert not torch.allclose(encoder.encode(PROBES).loss, expected, rtol=1e-3)
        for one in (encoder, again):
            one.unlearn(rest)
            torch.testing.assert_close(one.encode(PROBES).loss, expected, rtol=1e-6, atol=1e-6)

    def test_doubt_grows_away_from_the_data(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        if getattr(options, "features", 0):
            assert encoder.uncertainty(PROBES) is None
            return
        middle = torch.tensor(EXPERT.mean(axis=0))
        away = torch.tensor(EXPERT.std(axis=0)) * torch.tensor([[0.0], [4.0], [8.0]])
        doubt = encoder.uncertainty(middle + away)
        assert (doubt.diff() >= 0).all()
        assert doubt[1] > 2 * doubt[0]

    @pytest.mark.parametrize(
        "states",
        [
            np.ones((1, 3)),
            np.ones((7, 3)),
            1e300 * EXPERT,
            1e-300 * EXPERT,
            EXPERT * [1.0, 0.0, 1.0] + [0.0, 5.0, 1e9],
        ],
        ids=["one", "alike", "huge", "tiny", "constant"],
    )
    def test_any_data_have_a_finite_loss(self, cls: Any, options: Any, states: np.ndarray) -> None:
        encoder = fitted(cls, options, check(states, negatives=states[:5] * 0.5))
        size = np.abs(states).max()
        asked = torch.tensor(np.concatenate([states, states * 0.5, np.full((1, 3), size)]))
        for answer in (encoder.encode(asked).loss, encoder.uncertainty(asked)):
            assert answer is None or (torch.isfinite(answer) & (answer >= 0)).all()


class TestKernelMean:
    def test_with_the_documented_mapping_it_is_the_power_of_the_kernel_mean(self) -> None:
        encoder = fitted(KernelMean, KernelMeanOptions())
        scaled = (EXPERT - EXPERT.mean(axis=0)) / EXPERT.std(axis=0)
        width = encoder.tensors()["widths"].item()
        assert width == pytest.approx(0.5 * np.median(pdist(scaled)), rel=1e-3)
        some = kernels.Centers(
            torch.tensor(scaled), torch.full((120,), 1 / 120, dtype=torch.float64)
        )
        peak = naive(some, scaled, width).max()
        states = (PROBES.numpy() - EXPERT.mean(axis=0)) / EXPERT.std(axis=0)
        expected = np.minimum(naive(some, states, width) / peak, 1) ** 1.5
        found = rewards(encoder.encode(PROBES).loss, 1.5)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)

    def test_several_widths_count_the_same(self) -> None:
        encoder = fitted(KernelMean, KernelMeanOptions(widths=(0.2, 0.8), standardize=False))
        some = kernels.Centers(
            torch.tensor(EXPERT), torch.full((120,), 1 / 120, dtype=torch.float64)
        )
        low, high = encoder.tensors()["widths"].tolist()
        assert high == pytest.approx(4 * low)
        relative = [
            naive(some, PROBES.numpy(), width) / naive(some, EXPERT, width).max()
            for width in (low, high)
        ]
        found = (-encoder.encode(PROBES).loss).exp()
        np.testing.assert_allclose(found.numpy(), np.mean(relative, axis=0).clip(max=1), rtol=1e-9)

    def test_a_narrow_width_tells_the_middle_of_a_gait_from_the_gait(self) -> None:
        turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        gait = check(np.stack([np.cos(turn), np.sin(turn)], axis=1))
        middle = torch.zeros(1, 2, dtype=torch.float64)

        def lost(*widths: float) -> float:
            encoder = fitted(KernelMean, KernelMeanOptions(widths=widths), gait)
            return float(encoder.encode(middle).loss) - float(
                encoder.encode(torch.tensor(gait.states)).loss.mean()
            )

        assert lost(0.7) < 0.1
        assert lost(0.1, 0.7) > 0.3

    def test_a_demonstration_of_weight_0_does_not_count(self) -> None:
        options = KernelMeanOptions(standardize=False)
        kept = np.arange(len(EXPERT)) % 4 > 0
        weighed = attrs.evolve(DATA, weights=read_only(np.where(kept, 0.5, 0.0)))
        expected = fitted(KernelMean, options, take(DATA, kept)).encode(PROBES).loss
        found = fitted(KernelMean, options, weighed).encode(PROBES).loss
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    def test_weights_are_shares_of_the_kernel_mean(self) -> None:
        two = check(np.array([[0.0], [1.0]]))
        weighed = attrs.evolve(two, weights=read_only(np.array([0.25, 1.0])))
        encoder = fitted(KernelMean, KernelMeanOptions(widths=(0.05,), standardize=False), weighed)
        loss = encoder.encode(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).loss
        assert loss.tolist() == pytest.approx([math.log(4), 0.0])

    @pytest.mark.parametrize("held_out", [0, 100])
    def test_the_width_that_explains_held_out_states_is_kept(self, held_out: int) -> None:
        states = RANDOM.normal(size=(500, 2))
        data = check(states[held_out:])
        data = attrs.evolve(data, held_out=read_only(states[:held_out]))
        options = KernelMeanOptions(widths=(0.01, 0.3, 30.0), select="held-out")
        encoder = fitted(KernelMean, options, data)
        others = [fitted(KernelMean, KernelMeanOptions(widths=(w,)), data) for w in options.widths]
        widths = [other.tensors()["widths"].item() for other in others]
        assert encoder.tensors()["widths"].tolist() == [widths[1]]

    def test_random_features_come_near_the_exact_mean_of_experts(self) -> None:
        exact = fitted(KernelMean, KernelMeanOptions()).encode(torch.tensor(EXPERT)).loss
        rough = fitted(KernelMean, KernelMeanOptions(features=4096)).encode(torch.tensor(EXPERT))
        apart = rewards(exact, 1.0) - rewards(rough.loss, 1.0)
        assert 1e-6 < apart.abs().max() < 0.15

    def test_doubt_is_that_of_a_count_of_experts(self) -> None:
        groups = np.concatenate([np.zeros((9, 1)), np.full((16, 1), 100.0), np.full((1, 1), 1e4)])
        encoder = fitted(
            KernelMean, KernelMeanOptions(widths=(0.01,), standardize=False), check(groups)
        )
        asked = torch.tensor([[0.0], [100.0], [1e4]], dtype=torch.float64)
        assert encoder.uncertainty(asked).tolist() == pytest.approx([1 / 3, 1 / 4, 1.0])

    def test_extending_keeps_the_scale_and_brings_terms(self) -> None:
        encoder = fitted(KernelMean, KernelMeanOptions(), take(DATA, np.arange(120) < 60))
        before = encoder.tensors()
        encoder.extend(DATA, iirl.Context("encoder", "e", 0, 1))
        after = encoder.tensors()
        for name in ("center", "spread", "widths"):
            assert torch.equal(before[name], after[name])
        assert sorted(after["rows"].tolist()) == [*range(120)]


class TestMmdWitness:
    def test_no_function_of_the_unit_ball_does_better_at_eq_2(self) -> None:
        encoder = fitted(MmdWitness, MmdWitnessOptions())
        tensors = encoder.tensors()
        states = (np.concatenate([EXPERT, NEGATIVE]) - tensors["center"].numpy()) / tensors[
            "spread"
        ].numpy()
        kernel = np.exp(
            -cdist(states, states, "sqeuclidean") / (2 * tensors["widths"][0].item() ** 2)
        )
        contrast = np.repeat([1 / 120, -1 / 80], [120, 80])
        witness = encoder.witness(torch.tensor(np.concatenate([EXPERT, NEGATIVE]))).numpy()
        np.testing.assert_allclose(witness, kernel @ contrast, atol=1e-12)
        best = contrast @ witness / math.sqrt(contrast @ kernel @ contrast)
        assert best == pytest.approx(math.sqrt(contrast @ kernel @ contrast))
        for seed in range(200):
            generator = np.random.default_rng(seed)
            other = contrast + 0.01 * generator.random() * generator.normal(size=200)
            reached = contrast @ kernel @ other / math.sqrt(other @ kernel @ other)
            assert reached <= best

    def test_the_loss_is_derived_from_the_witness_as_documented(self) -> None:
        encoder = fitted(MmdWitness, MmdWitnessOptions())
        tensors = encoder.tensors()
        scale = Scale(tensors["center"], tensors["spread"])
        narrow = tensors["widths"][1].item()
        halves = [
            kernels.Centers(
                scale(torch.tensor(s)), torch.full((len(s),), 1 / len(s), dtype=torch.float64)
            )
            for s in (EXPERT, NEGATIVE)
        ]
        density = sum(naive(half, scale(PROBES).numpy(), narrow) for half in halves) / 2
        low, high = encoder.witness(torch.tensor(np.concatenate([EXPERT, NEGATIVE]))).aminmax()
        share = ((encoder.witness(PROBES) - low) / (high - low)).numpy()
        support = density / (density + tensors["background"].exp().item())
        well = share > 0.2
        assert well.sum() > 10
        found = rewards(encoder.encode(PROBES).loss, 1.0).numpy()
        np.testing.assert_allclose(found[well], (share * support)[well], rtol=1e-6)
        assert (found[~well] < 0.21).all()

    def test_far_from_both_classes_nothing_is_endorsed_though_the_witness_is_middling(self) -> None:
        encoder = fitted(MmdWitness, MmdWitnessOptions())
        directions = torch.tensor(RANDOM.normal(size=(50, 3)) * EXPERT.std(axis=0))
        far = torch.tensor(EXPERT.mean(axis=0)) + 40 * directions
        far = far.requires_grad_(True)
        low, high = encoder.tensors()["range"].tolist()
        middling = ((encoder.witness(far) - low) / (high - low)).detach()
        assert ((middling > 0.2) & (middling < 0.8)).double().mean() > 0.8
        loss = encoder.encode(far).loss
        assert (rewards(loss, 1.0) < 1e-6).double().mean() > 0.9
        (gradient,) = torch.autograd.grad(loss.sum(), far)
        outward = (gradient * (far - torch.tensor(EXPERT.mean(axis=0)))).sum(dim=1)
        assert (outward > 0).all()

    def test_negatives_lose_more_than_experts(self) -> None:
        encoder = fitted(MmdWitness, MmdWitnessOptions())
        expert, negative = (encoder.encode(torch.tensor(s)).loss for s in (EXPERT, NEGATIVE))
        assert (negative[:, None] > expert).double().mean() > 0.95
        assert rewards(negative, 1.0).min() < 0.02

    def test_unlearning_keeps_the_negatives_when_the_rest_has_none(self) -> None:
        rest = take(DATA, np.arange(120) < 60)
        expected = fitted(MmdWitness, MmdWitnessOptions(), rest).encode(PROBES).loss
        encoder = fitted(MmdWitness, MmdWitnessOptions())
        encoder.unlearn(attrs.evolve(rest, negatives=DATA.negatives[:0]))
        torch.testing.assert_close(encoder.encode(PROBES).loss, expected, rtol=1e-6, atol=1e-6)

    def test_without_negatives_it_says_what_to_add(self) -> None:
        with pytest.raises(iirl.DataError, match="add states that are known not to be expert"):
            fitted(MmdWitness, MmdWitnessOptions(), check(EXPERT))


def test_the_scale_within_classes_keeps_what_tells_them_apart() -> None:
    first, second = torch.tensor(EXPERT), torch.tensor(EXPERT + np.array([1e6, 0.0, 0.0]))
    scale = Scale.within(first, second)
    torch.testing.assert_close(scale.spread, first.std(dim=0, correction=0), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(scale(first).mean(dim=0), torch.zeros(3).double(), atol=1e-9, rtol=0)


def test_no_width_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one number"):
        KernelMeanOptions(widths=())
