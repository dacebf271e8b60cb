"""Encoders that are trained: what they minimise, what they answer far away, what they doubt."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_encoders import networks
from iirl_encoders.energy import Energy
from iirl_encoders.flow import Flow
from iirl_encoders.mappings import Exp
from iirl_encoders.options import EnergyOptions, ExpOptions, FlowOptions, RndOptions
from iirl_encoders.reach import Reach
from iirl_encoders.rnd import Rnd
from iirl_engine.demonstrations import check

CONTEXT = iirl.Context("encoder", "e", 0, 0)
GENERATOR = np.random.default_rng(0)
# A ring of experts with radius 1 and a little width, and negatives around (2, 0) and (-2, 0).
ANGLE = GENERATOR.uniform(0, 2 * np.pi, 300)
RADIUS = 1 + 0.1 * GENERATOR.normal(size=300)
RING = np.stack([RADIUS * np.cos(ANGLE), RADIUS * np.sin(ANGLE)], axis=1)
RIGHT = np.array([2.0, 0.0]) + 0.3 * GENERATOR.normal(size=(200, 2))
LEFT = -RIGHT
QUICK = EnergyOptions(steps=300, hidden=16)


def energy(options: EnergyOptions = QUICK, **data: Any) -> Energy:
    weights = {name: data.pop(name) for name in ("weights", "negative_weights") if name in data}
    encoder = Energy(options)
    encoder.fit(attrs.evolve(check(RING, **data), **weights), CONTEXT)
    return encoder


def reward(encoder: Energy, states: Any) -> Tensor:
    """Return the reward by the mapping that the encoder's documentation names."""
    mapping = Exp(ExpOptions(steepness=1.0, l_min=0.0, l_max=1.0))
    mapping.fit(torch.ones(1, dtype=torch.float64), CONTEXT)
    return mapping.map(encoder.encode(torch.as_tensor(states)).loss)


def contrast(encoder: Energy, negatives: Any) -> float:
    return float(reward(encoder, RING).mean() - reward(encoder, negatives).mean())


def on_a_circle(radius: float) -> Tensor:
    angle = torch.linspace(0, 2 * torch.pi, 64, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


class TestEnergy:
    def test_the_named_mapping_gives_back_what_was_trained(self) -> None:
        encoder = energy(negatives=RIGHT)
        states = on_a_circle(1.5)
        tensors = encoder.tensors()
        scaled = (states - tensors["center"]) / tensors["spread"]
        far = Reach(tensors["low"], tensors["high"]).excess(scaled).sum(dim=1)
        output = networks.answer(networks.named("network", tensors), scaled, torch.tanh)[1]
        trained = torch.sigmoid(-(output.squeeze(2) + far)).mean(dim=0)
        assert torch.allclose(reward(encoder, states), trained, rtol=1e-12)

    def test_training_climbs_eq_2(self) -> None:
        options = attrs.evolve(QUICK, smoothness=0.0, implicit=0.0)
        early = energy(attrs.evolve(options, steps=1), negatives=RIGHT)
        late = energy(options, negatives=RIGHT)
        assert contrast(early, RIGHT) < 0.3
        assert contrast(late, RIGHT) > 0.9

    def test_smoothness_keeps_a_slope_on_the_way_to_the_experts(self) -> None:
        way = torch.tensor(np.linspace([2.5, 0.0], [1.0, 0.0], 50), requires_grad=True)

        def slope(smoothness: float) -> float:
            encoder = energy(attrs.evolve(QUICK, smoothness=smoothness), negatives=RIGHT)
            (gradient,) = torch.autograd.grad(reward(encoder, way).sum(), way)
            return float(gradient.norm(dim=1).amin())

        assert slope(0.1) > 0.03
        assert slope(0.0) < 0.003

    def test_negatives_lose_by_as_much_as_they_weigh(self) -> None:
        both = np.concatenate([RIGHT, LEFT])
        right = energy(negatives=both, negative_weights=np.repeat([1.0, 0.0], 200))
        left = energy(negatives=both, negative_weights=np.repeat([0.0, 1.0], 200))
        assert reward(right, RIGHT).mean() < reward(left, RIGHT).mean() - 0.1
        assert reward(left, LEFT).mean() < reward(right, LEFT).mean() - 0.1

    @pytest.mark.parametrize("negatives", [None, RIGHT], ids=["implicit", "given"])
    def test_far_away_nothing_is_rewarded(self, negatives: Any) -> None:
        encoder = energy(negatives=negatives)
        assert reward(encoder, RING).mean() > 0.5
        for radius in (20.0, 1e3, 1e9):
            assert reward(encoder, on_a_circle(radius)).max() < 1e-3

    def test_without_negatives_what_is_unlike_the_expert_gets_less(self) -> None:
        encoder = energy()
        ring, beyond, far = (reward(encoder, on_a_circle(r)).mean() for r in (1.0, 2.0, 3.0))
        assert ring > 0.6
        assert beyond < 0.8 * ring
        assert far < 0.2 * ring

    def test_a_schedule_that_weakens_one_term_does_not_drown_it_in_the_other(self) -> None:
        faint = energy(negatives=RIGHT, weights=np.full(300, 0.01))
        states = on_a_circle(1.5)
        assert torch.allclose(reward(faint, states), reward(energy(negatives=RIGHT), states))

    def test_one_network_has_no_doubts_but_far_away(self) -> None:
        encoder = energy(attrs.evolve(QUICK, members=1))
        assert encoder.uncertainty(torch.tensor(RING)).amax() == 0
        assert encoder.uncertainty(on_a_circle(9.0)).amin() > 0


@pytest.mark.parametrize(
    ("cls", "options"), [(Energy, EnergyOptions()), (Rnd, RndOptions())], ids=["energy", "rnd"]
)
def test_networks_doubt_strangers_more_than_held_out_experts(cls: Any, options: Any) -> None:
    encoder = cls(options)
    encoder.fit(check(RING[:200]), CONTEXT)
    expert = encoder.uncertainty(torch.tensor(RING[200:]))
    stranger = encoder.uncertainty(on_a_circle(3.0))
    assert (stranger[:, None] > expert).double().mean() > 0.8


def test_rnd_is_the_error_of_its_predictors() -> None:
    encoder = Rnd(RndOptions(steps=20, members=2, hidden=8, outputs=4))
    encoder.fit(check(RING), CONTEXT)
    tensors = {name: tensor.numpy() for name, tensor in encoder.tensors().items()}

    def silu(x: Any) -> Any:
        return x / (1 + np.exp(-x))

    states = on_a_circle(1.3).numpy()
    scaled = (states - tensors["center"]) / tensors["spread"]
    errors = []
    for k in range(2):
        part = {name: tensor[k] for name, tensor in tensors.items() if "." in name}
        aim = silu(scaled @ part["target.weight_0"] + part["target.bias_0"])
        aim = aim @ part["target.weight_1"] + part["target.bias_1"]
        found = silu(scaled @ part["predictor.weight_0"] + part["predictor.bias_0"])
        found = silu(found @ part["predictor.weight_1"] + part["predictor.bias_1"])
        found = found @ part["predictor.weight_2"] + part["predictor.bias_2"]
        errors.append(((found - aim) ** 2).mean(axis=1))
    loss = encoder.encode(torch.tensor(states)).loss.numpy()
    assert loss == pytest.approx(np.mean(errors, axis=0))
    doubt = encoder.uncertainty(torch.tensor(states)).numpy()
    assert doubt == pytest.approx(np.std(errors, axis=0))


def test_learning_on_trains_the_predictor_and_leaves_the_target() -> None:
    encoder = Rnd(RndOptions(steps=20))
    encoder.fit(check(RING), CONTEXT)
    before = encoder.tensors()
    encoder.extend(check(np.concatenate([RING, RIGHT])), CONTEXT)
    changed = {n for n, t in encoder.tensors().items() if not torch.equal(t, before[n])}
    assert changed == {name for name in before if name.startswith("predictor.")}


class TestFlow:
    def test_the_loss_is_the_difference_of_log_likelihoods(self) -> None:
        encoder = Flow(FlowOptions(noise=0.0, steps=600))
        encoder.fit(check(3 + 2 * GENERATOR.normal(size=(2000, 1))), CONTEXT)
        loss = encoder.encode(torch.tensor([[3.0], [5.0], [7.0], [-1.0]]).double()).loss
        assert loss.tolist() == pytest.approx([0.0, 0.5, 2.0, 2.0], abs=0.15)

    def test_it_learns_a_density_that_integrates_to_one(self) -> None:
        encoder = Flow(FlowOptions(steps=200, hidden=16))
        encoder.fit(check(RING), CONTEXT)
        tensors = encoder.tensors()
        low, high = tensors["low"], tensors["high"]
        share = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
        scaled = torch.cartesian_prod(share, share) * (high - low) + low
        loss = encoder.encode(scaled * tensors["spread"] + tensors["center"]).loss
        # What is likelier than every demonstration is cut to their level, so it is counted less.
        total = (tensors["most"] - loss).exp().mean() * (high - low).prod()
        assert 0.8 < float(total) < 1.02

    def test_without_zuko_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "zuko", None)
        with pytest.raises(iirl.PluginError, match="encoder flow needs zuko") as caught:
            Flow(FlowOptions()).fit(check(RING), CONTEXT)
        assert caught.value.next_step == "pip install 'iirl-encoders[flow]'"

    def test_a_release_leaves_global_randomness_alone(self) -> None:
        encoder = Flow(FlowOptions(steps=1))
        encoder.fit(check(RING), CONTEXT)
        before = torch.random.get_rng_state()
        Flow(FlowOptions(steps=1)).restore(encoder.tensors(), check(RING))
        assert torch.equal(torch.random.get_rng_state(), before)


class TestNetworks:
    def test_members_are_networks_of_their_own(self) -> None:
        parameters = networks.drawn(3, (2, 4, 1), torch.Generator().manual_seed(0))
        together = networks.answer(parameters, on_a_circle(1.0), torch.tanh)[1]
        for k in range(3):
            alone = {name: tensor[[k]] for name, tensor in parameters.items()}
            answer = networks.answer(alone, on_a_circle(1.0), torch.tanh)[1]
            assert torch.allclose(answer[0], together[k])
        assert not torch.allclose(together[0], together[1])

    def test_the_start_is_left_as_it_is(self) -> None:
        start = {"x": torch.ones(3, dtype=torch.float64)}
        with torch.no_grad():
            end = networks.minimised(
                start, lambda at: (at["x"] - 2).square().sum(), steps=500, learning_rate=0.05
            )
        assert start["x"].tolist() == [1.0] * 3
        assert not start["x"].requires_grad
        assert not end["x"].requires_grad
        assert end["x"].tolist() == pytest.approx([2.0] * 3, abs=1e-3)


def test_the_reach_is_the_range_widened_by_half() -> None:
    reach = Reach.of(torch.tensor([[0.0, 5.0], [2.0, 5.0]]).double())
    assert (reach.low.tolist(), reach.high.tolist()) == ([-0.5, 4.5], [2.5, 5.5])
    excess = reach.excess(torch.tensor([[-1.5, 5.0], [3.0, 9.5], [1.0, 5.5]]).double())
    assert excess.tolist() == [[1.0, 0.0], [0.5, 4.0], [0.0, 0.0]]
    other = reach.joined(Reach.of(torch.tensor([[9.0, 5.0]]).double()))
    assert (other.low.tolist(), other.high.tolist()) == ([-0.5, 4.5], [9.5, 5.5])
