"""Encoders: the loss of their equation, from any batch, after a release too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import iirl_engine as iirl
from iirl_encoders.knn import Knn
from iirl_encoders.moe import MoeAutoencoder, read_weights
from iirl_encoders.options import KnnOptions, MoeAutoencoderOptions
from iirl_encoders.scale import Scale
from iirl_engine.demonstrations import check

CONTEXT = iirl.Context("encoder", "e", 0, 0)
T = np.linspace(0.0, 1.0, 60)
DATA = check(np.stack([T, np.sin(3 * T), 30 * T**2], axis=1))
ENCODERS = [
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200)),
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200, experts=1, bottleneck=4, batch=16)),
    (MoeAutoencoder, MoeAutoencoderOptions(steps=200, standardize=False)),
    (Knn, KnnOptions()),
    (Knn, KnnOptions(k=1, standardize=False)),
    (Knn, KnnOptions(k=1000)),
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
