"""Encoders: the loss of their equation, from any batch, after a release too."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import iirl_engine as iirl
from iirl_encoders.energy import Energy
from iirl_encoders.flow import Flow
from iirl_encoders.knn import Knn
from iirl_encoders.moe import MoeAutoencoder, read_weights
from iirl_encoders.options import (
    EnergyOptions,
    FlowOptions,
    KnnOptions,
    MoeAutoencoderOptions,
    RndOptions,
)
from iirl_encoders.rnd import Rnd
from iirl_encoders.scale import Scale
from iirl_engine.demonstrations import check

CONTEXT = iirl.Context("encoder", "e", 0, 0)
T = np.linspace(0.0, 1.0, 60)
DATA = check(np.stack([T, np.sin(3 * T), 30 * T**2], axis=1))
MORE = check(np.concatenate([DATA.states, DATA.states + np.array([0.0, 2.0, 0.0])]))
ENCODERS = [
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200)),
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200, experts=1, bottleneck=4, batch=16)),
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200, standardize=False)),
    (Knn, KnnOptions()),
    (Knn, KnnOptions(k=1, standardize=False)),
    (Knn, KnnOptions(k=1000)),
    (Energy, EnergyOptions(steps=100, hidden=16)),
    (Energy, EnergyOptions(steps=100, members=1, hidden=16, smoothness=0.0)),
    (Rnd, RndOptions(steps=100)),
    (Flow, FlowOptions(steps=100, transforms=2, hidden=16)),
]


def fitted(cls: Any, options: Any, seed: int = 0) -> Any:
    encoder = cls(options)
    encoder.fit(DATA, iirl.Context("encoder", "e", seed, 0))
    return encoder


def states(count: int = 20, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("cls", "options"), ENCODERS)
class TestEveryEncoder:
    def test_experts_lose_less_than_strangers(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        expert = encoder.encode(torch.tensor(DATA.states)).loss
        stranger = encoder.encode(torch.tensor(DATA.states) + 40).loss
        assert (expert >= 0).all()
        assert expert.mean() < 0.1 * stranger.mean()

    def test_rows_do_not_depend_on_their_batch(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        together = encoder.encode(states())
        alone = torch.cat([encoder.encode(row[None]).loss for row in states()])
        assert torch.allclose(together.loss, alone, rtol=1e-12, atol=1e-12)
        assert together.features.shape[0] == 20

    def test_the_loss_can_be_differentiated(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        given = states(8).requires_grad_(True)
        assert torch.autograd.gradcheck(lambda s: encoder.encode(s).loss, (given,))

    def test_it_survives_a_release_bit_for_bit(self, cls: Any, options: Any) -> None:
        encoder, again = fitted(cls, options), cls(options)
        again.restore(encoder.tensors(), DATA)
        assert torch.equal(again.encode(states()).loss, encoder.encode(states()).loss)

    def test_one_seed_gives_the_same_bits(self, cls: Any, options: Any) -> None:
        first, second = fitted(cls, options), fitted(cls, options)
        assert torch.equal(first.encode(states()).loss, second.encode(states()).loss)

    def test_far_away_the_loss_is_finite_and_above_every_expert(
        self, cls: Any, options: Any
    ) -> None:
        encoder = fitted(cls, options)
        expert = encoder.encode(torch.tensor(DATA.states)).loss.amax()
        direction = states(200) / states(200).norm(dim=1, keepdim=True)
        for distance in (1e3, 1e6, 1e150, 1e300):
            loss = encoder.encode(distance * direction).loss
            assert torch.isfinite(loss).all()
            assert (loss > expert).all()

    def test_a_fitted_one_can_be_shipped_to_another_process(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        again = pickle.loads(pickle.dumps(encoder))
        assert torch.equal(again.encode(states()).loss, encoder.encode(states()).loss)

    def test_learning_on_leaves_earlier_tensors_as_they_were(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        released = encoder.tensors()
        before = {name: tensor.clone() for name, tensor in released.items()}
        again = cls(options)
        again.restore(released, DATA)
        again.extend(MORE, iirl.Context("encoder", "e", 0, 1))
        encoder.extend(MORE, iirl.Context("encoder", "e", 0, 1))
        assert all(torch.equal(released[name], before[name]) for name in before)
        assert torch.equal(again.encode(states()).loss, encoder.encode(states()).loss)

    def test_learning_on_makes_what_was_added_more_expert(self, cls: Any, options: Any) -> None:
        encoder = fitted(cls, options)
        added = torch.tensor(MORE.states[len(DATA.states) :])
        before = encoder.encode(added).loss.mean()
        encoder.extend(MORE, iirl.Context("encoder", "e", 0, 1))
        assert encoder.encode(added).loss.mean() < before

    def test_one_expert_state_is_enough(self, cls: Any, options: Any) -> None:
        encoder = cls(options)
        encoder.fit(check(np.array([[1.0, -2.0, 0.0]])), CONTEXT)
        loss = encoder.encode(torch.tensor([[1.0, -2.0, 0.0], [9.0, 9.0, 9.0]]).double()).loss
        assert torch.isfinite(loss).all()
        assert loss[0] < loss[1]

    def test_global_randomness_is_left_alone(self, cls: Any, options: Any) -> None:
        before = torch.random.get_rng_state()
        fitted(cls, options)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_another_seed_learns_another_mixture() -> None:
    options = MoeAutoencoderOptions(steps=50)
    first, second = (fitted(MoeAutoencoder, options, seed) for seed in (0, 1))
    assert not torch.equal(first.encode(states()).loss, second.encode(states()).loss)


def test_knn_is_the_mean_distance_to_the_nearest() -> None:
    encoder = fitted(Knn, KnnOptions(k=3, standardize=False))
    expected = np.sort(cdist(states().numpy(), DATA.states), axis=1)[:, :3].mean(axis=1)
    assert encoder.encode(states()).loss.numpy() == pytest.approx(expected)


def test_the_uncertainty_of_knn_is_the_standard_error_of_its_mean() -> None:
    encoder = fitted(Knn, KnnOptions(k=4, standardize=False))
    apart = np.sort(cdist(states().numpy(), DATA.states), axis=1)[:, :4]
    expected = apart.std(axis=1, ddof=1) / 2
    assert encoder.uncertainty(states()).numpy() == pytest.approx(expected)
    assert fitted(Knn, KnnOptions(k=1)).uncertainty(states()) is None


def test_knn_unlearns_to_the_bit() -> None:
    encoder, expected = fitted(Knn, KnnOptions()), Knn(KnnOptions())
    rest = check(DATA.states[::3])
    encoder.unlearn(rest)
    expected.fit(rest, CONTEXT)
    assert torch.equal(encoder.encode(states()).loss, expected.encode(states()).loss)


def test_no_state_is_less_expert_to_knn_for_an_added_neighbour() -> None:
    encoder = fitted(Knn, KnnOptions())
    before = encoder.encode(states()).loss
    encoder.extend(check(np.concatenate([DATA.states, 100 * states(30, 1).numpy()])), CONTEXT)
    assert (encoder.encode(states()).loss <= before).all()


def write_mixture(path: Path, **changes: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {}
    for k in range(2):
        arrays[f"experts.{k}.encoder.0.weight"] = generator.normal(size=(4, 3))
        arrays[f"experts.{k}.encoder.0.bias"] = generator.normal(size=4)
        arrays[f"experts.{k}.decoder.0.weight"] = generator.normal(size=(3, 4))
        arrays[f"experts.{k}.decoder.0.bias"] = generator.normal(size=3)
    arrays["gating_network.fc.weight"] = generator.normal(size=(2, 3))
    arrays["gating_network.fc.bias"] = generator.normal(size=2)
    np.savez(path, **(arrays | changes))
    return arrays


def test_given_weights_are_the_mixture_of_the_equation(tmp_path: Path) -> None:
    arrays = write_mixture(tmp_path / "w.npz")
    encoder = fitted(MoeAutoencoder, MoeAutoencoderOptions(weights=str(tmp_path / "w.npz")))
    s = states().numpy()
    logits = s @ arrays["gating_network.fc.weight"].T + arrays["gating_network.fc.bias"]
    gate = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mixed = np.zeros_like(s)
    for k in range(2):
        part = {n.removeprefix(f"experts.{k}."): a for n, a in arrays.items()}
        hidden = np.maximum(s @ part["encoder.0.weight"].T + part["encoder.0.bias"], 0)
        mixed += gate[:, [k]] * (hidden @ part["decoder.0.weight"].T + part["decoder.0.bias"])
    expected = ((s - mixed) ** 2).mean(axis=1)
    assert encoder.encode(states()).loss.numpy() == pytest.approx(expected)


def test_the_uncertainty_of_the_mixture_is_the_gated_variance_of_its_experts(
    tmp_path: Path,
) -> None:
    arrays = write_mixture(tmp_path / "w.npz")
    encoder = fitted(MoeAutoencoder, MoeAutoencoderOptions(weights=str(tmp_path / "w.npz")))
    s = states().numpy()
    logits = s @ arrays["gating_network.fc.weight"].T + arrays["gating_network.fc.bias"]
    gate = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = []
    for k in range(2):
        part = {n.removeprefix(f"experts.{k}."): a for n, a in arrays.items()}
        hidden = np.maximum(s @ part["encoder.0.weight"].T + part["encoder.0.bias"], 0)
        each.append(hidden @ part["decoder.0.weight"].T + part["decoder.0.bias"])
    # Of two values with the weights w and 1 - w, the variance is w (1 - w) times their gap squared.
    expected = gate[:, 0] * gate[:, 1] * ((each[0] - each[1]) ** 2).mean(axis=1)
    assert encoder.uncertainty(states()).numpy() == pytest.approx(expected)
    alone = fitted(MoeAutoencoder, MoeAutoencoderOptions(experts=1, steps=1))
    assert alone.uncertainty(states()) is None


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (MoeAutoencoder, MoeAutoencoderOptions(steps=200, experts=1, bottleneck=1)),
        (Energy, EnergyOptions(steps=200, hidden=16)),
        (Rnd, RndOptions(steps=200)),
        (Flow, FlowOptions(steps=200, transforms=2, hidden=16)),
    ],
)
class TestTheScheduleWeighsDemonstrations:
    def test_ones_are_none(self, cls: Any, options: Any) -> None:
        weighed = cls(options)
        weighed.fit(attrs.evolve(DATA, weights=np.ones(60)), CONTEXT)
        loss = fitted(cls, options).encode(states()).loss
        assert torch.allclose(weighed.encode(states()).loss, loss)

    def test_what_weighs_nothing_becomes_a_stranger(self, cls: Any, options: Any) -> None:
        weights = np.repeat([1.0, 0.0], 60)
        losses = []
        for one in (weights, 1 - weights):
            encoder = cls(options)
            encoder.fit(attrs.evolve(MORE, weights=one), CONTEXT)
            losses.append(encoder.encode(torch.tensor(MORE.states)).loss)
        first, second = losses
        assert first[:60].mean() < second[:60].mean()
        assert second[60:].mean() < first[60:].mean()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gating_network.fc.bias": np.zeros(3)}, "gate_bias must have the shape"),
        ({"experts.1.decoder.0.weight": np.full((3, 4), np.nan)}, "NaN"),
        ({"experts.1.decoder.0.weight": np.zeros((3, 5))}, "no mixture"),
    ],
)
def test_wrong_weights_are_refused(changes: Any, said: str, tmp_path: Path) -> None:
    write_mixture(tmp_path / "w.npz", **changes)
    with pytest.raises(iirl.DataError, match=said):
        read_weights(tmp_path / "w.npz", 3)
    (tmp_path / "no.npz").write_bytes(b"PK but no zip")
    with pytest.raises(iirl.DataError, match="no mixture"):
        read_weights(tmp_path / "no.npz", 3)


def test_features_of_one_unit_are_left_alone_and_others_are_standardised() -> None:
    same = torch.tensor(np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 5.0])
    assert torch.equal(Scale.asked("auto", same)(same), same)
    for factors in ([1.0, 50.0], [1e3, 1e3], [1e-3, 1e-3]):
        mixed = same * torch.tensor(factors)
        scaled = Scale.asked("auto", mixed)(mixed)
        assert scaled.std(dim=0, correction=0).tolist() == pytest.approx([1.0, 1.0])
        assert scaled.mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
