"""No state of a box has a lower loss, or a higher reward, than prover or checker say."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from iirl_certify.boxes import Array, Boxes
from iirl_certify.ceiling import Ceiling
from iirl_certify.relaxation import Method, Program, _Pass, loss_low
from iirl_encoders.mappings import Exp, Isotonic, Linear, Sigmoid
from iirl_encoders.moe import MoeAutoencoder
from iirl_encoders.options import (
    ExpOptions,
    IsotonicOptions,
    LinearOptions,
    MoeAutoencoderOptions,
    SigmoidOptions,
)
from iirl_engine import Demonstrations, Fade, Kernels, RewardModel
from iirl_engine.api import Context
from iirl_engine.builtin.norms import BoxNorm, LinearNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, SupportOptions
from iirl_engine.builtin.options import LinearOptions as LinearNormOptions
from iirl_engine.certificate import Refused, Reward, ball, box, mixture, ranges
from iirl_engine.demonstrations import check
from iirl_engine.formula import formula_of
from iirl_engine.records import Domain
from iirl_engine.testing.worlds import Given

METHODS: tuple[Method, ...] = ("interval", "crown-ibp", "crown")
CONTEXT = Context("auditor", "test", 0, 1)


def drawn_model(seed: int, *, kernels: bool = True) -> RewardModel:
    """Return a reward of random width, networks, mapping, norms and corrections."""
    rng = np.random.default_rng(seed)
    d, k, b = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    scale = 10 ** rng.uniform(-2, 2)
    states = rng.normal(size=(int(rng.integers(2, 20)), d)) * scale
    domain = Domain((-3 * scale,) * d, (3 * scale,) * d)
    data = check(states, feature_names=tuple(f"f{i}" for i in range(d)), domain=domain)
    encoder = MoeAutoencoder(MoeAutoencoderOptions())
    size = 10 ** rng.uniform(-1, 1)
    shapes = {
        "center": (d,),
        "encoder": (k, b, d),
        "encoder_bias": (k, b),
        "decoder": (k, d, b),
        "decoder_bias": (k, d),
        "gate": (k, d),
        "gate_bias": (k,),
    }
    tensors = {n: torch.tensor(rng.normal(size=s) * size) for n, s in shapes.items()}
    tensors["spread"] = torch.tensor(10 ** rng.uniform(-1, 1, d) * scale)
    encoder.restore(tensors, data)
    loss = encoder.encode(torch.tensor(states)).loss
    mapping = [
        Linear(LinearOptions()),
        Exp(ExpOptions()),
        Sigmoid(SigmoidOptions()),
        Isotonic(IsotonicOptions()),
    ][int(rng.integers(4))]
    mapping.fit(loss, CONTEXT)
    boundary = float(scale * rng.uniform(0.2, 2))
    low, high = np.sort(rng.normal(size=(2, d)) * scale, axis=0)
    norms = {
        "support": SupportNorm(SupportOptions(boundary=boundary)),
        "box": BoxNorm(
            BoxOptions(
                features=data.feature_names,
                low=tuple(low.tolist()),
                high=tuple((high + 1e-3 * scale).tolist()),
                forbid=bool(rng.integers(2)),
            )
        ),
        "half": LinearNorm(LinearNormOptions(a=tuple(rng.normal(size=d).tolist()), b=scale)),
    }
    for norm in norms.values():
        norm.fit(data, CONTEXT)
    corrections = []
    if kernels:
        for number in range(int(rng.integers(3))):
            count = int(rng.integers(1, 8))
            corrections.append(
                Kernels(
                    id=f"k{number}",
                    refiner="r",
                    round=1,
                    centers=rng.normal(size=(count, d)) * scale,
                    radii=scale * 10 ** rng.uniform(-1, 0.5, count),
                    strengths=rng.uniform(0, 1, count),
                    profile=("wendland", "gaussian")[int(rng.integers(2))],
                    effect=("suppress", "lift")[int(rng.integers(2))],
                )
            )
        for name in norms:
            if rng.random() < 0.4:
                end = -scale * rng.uniform(0, 0.2)
                start = end - scale * rng.uniform(0.01, 1)
                fade = {"norm": name, "start": float(start), "end": float(end)}
                corrections.append(Fade(id=f"f-{name}", refiner="r", round=1, **fade))
    return RewardModel(encoder, mapping, norms, data, domain, corrections)


def drawn_boxes(
    model: RewardModel, seed: int, sliced: bool, count: int = 12
) -> tuple[Array, Array, Array, Array]:
    """Return corners `[n, q]`, origins and axes of boxes from tiny to as large as the domain."""
    rng, d = np.random.default_rng(seed), model.width
    scale = model.domain.high[0]
    q = min(2, d) if sliced else d
    center = rng.uniform(-1, 1, (count, q)) * scale
    half = 10 ** rng.uniform(-6, 0, (count, 1)) * rng.uniform(0.1, 1, (count, q)) * scale
    origin, axes = np.zeros((1, d)), np.eye(d)[None]
    if sliced:
        origin, axes = rng.normal(size=(count, d)) * scale / 3, rng.normal(size=(count, q, d))
    return center - half, center + half, origin, axes


def framed(origin: Array, axes: Array, low: Array) -> tuple[Array, Array]:
    """Return an origin and axes for each box."""
    count = len(low)
    return (
        np.broadcast_to(origin, (count, *origin.shape[1:])),
        np.broadcast_to(axes, (count, *axes.shape[1:])),
    )


def sampled(low: Array, high: Array, origin: Array, axes: Array, seed: int) -> Array:
    """Return states `[n, m, d]` of boxes: random ones, and corners, where maxima tend to be."""
    rng = np.random.default_rng(seed)
    share = rng.random((len(low), 200, low.shape[1]))
    share[:, :80] = share[:, :80].round()
    u = low[:, None] + share * (high - low)[:, None]
    states: Array = origin[:, None] + u @ axes
    return states


@given(seed=st.integers(0, 10**6), sliced=st.booleans())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("method", METHODS)
def test_no_state_of_a_box_has_a_lower_loss(method: Method, seed: int, sliced: bool) -> None:
    model = drawn_model(seed, kernels=False)
    low, high, origin, axes = drawn_boxes(model, seed, sliced)
    formula = formula_of(model)
    program = Program.of(formula.parts["loss"], formula.tensors)
    bound, slack = loss_low(program, Boxes.between(low, high, origin, axes), method)
    states = sampled(low, high, origin, axes, seed)
    loss = model.encoder.encode(torch.tensor(states.reshape(-1, model.width))).loss
    least = loss.view(len(low), -1).amin(dim=1)
    assert (bound <= least * (1 + 1e-9) + 1e-300).all()
    assert torch.isfinite(slack).all()


@given(seed=st.integers(0, 10**6), sliced=st.booleans(), margin=st.sampled_from([0.0, 0.3]))
@settings(max_examples=150, deadline=None)
def test_no_forbidden_state_has_a_reward_above_the_ceiling(
    seed: int, sliced: bool, margin: float
) -> None:
    model = drawn_model(seed)
    low, high, origin, axes = drawn_boxes(model, seed, sliced)
    formula = formula_of(model)
    checker = Reward(formula.parts, formula.corrections, formula.tensors)
    states = torch.tensor(sampled(low, high, origin, axes, seed).reshape(-1, model.width))
    reward = model.reward(states)
    beyond = torch.zeros(len(states), dtype=torch.bool)
    for name, violation in model.violations(states).items():
        beyond |= violation > (margin if name == "support" else 0.0)
    most = torch.where(beyond, reward, -1.0).view(len(low), -1).amax(dim=1)
    for method in METHODS:
        bound = Ceiling(formula, margin, method)(Boxes.between(low, high, origin, axes))
        assert (most <= bound.ceiling + 1e-13).all()
        assert not (bound.allowed & (most >= 0)).any()
    for highest, *sides in zip(most.tolist(), low, high, *framed(origin, axes, low), strict=True):
        state = box(*sides)
        for floor in (0.0, 0.01, 0.3, 0.9):
            assert highest <= floor + 1e-13 or not checker.holds(state, floor, margin)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_small_boxes_have_tight_bounds(seed: int) -> None:
    model = drawn_model(seed, kernels=False)
    low, high, origin, axes = drawn_boxes(model, seed, sliced=False)
    middle = low / 2 + high / 2
    low, high = middle - 1e-9 * abs(middle), middle + 1e-9 * abs(middle)
    formula = formula_of(model)
    program = Program.of(formula.parts["loss"], formula.tensors)
    loss = model.encoder.encode(torch.tensor(middle)).loss
    bound = loss_low(program, Boxes.between(low, high, origin, axes), "crown")[0]
    assert (bound >= loss * (1 - 1e-3) - 1e-6 * loss.max()).all()
    checker = Reward(formula.parts, formula.corrections, formula.tensors)
    sides = zip(low, high, *framed(origin, axes, low), strict=True)
    theirs = np.array([checker.loss_low(box(*each)) for each in sides], float)
    assert (theirs >= (loss * (1 - 1e-3) - 1e-6 * loss.max()).numpy()).all()
    assert (theirs <= (loss * (1 + 1e-9)).numpy() + 1e-300).all()


def as_fraction(number: arb) -> Fraction:
    mantissa, exponent = number.man_exp()
    return int(mantissa) * Fraction(2) ** int(exponent)


@given(
    size=st.integers(-8, 8),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_rounding_of_a_matrix_product_is_outward(size: int, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(2, count)) * 10.0 ** rng.uniform(-size - 9, size + 9, (2, count))
    bias, point = rng.normal(size=2), rng.normal(size=(1, count))
    exact = [
        sum((Fraction(w) * Fraction(x) for w, x in zip(row, point[0], strict=True)), Fraction(b))
        for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]
    step = {"op": "affine", "of": 0, "weight": "weight", "bias": "bias"}
    state = ball(weight) @ box(point[0], point[0], np.zeros(count), np.eye(count))
    state[..., 0] += bias
    (told,) = ranges(state)
    steps = [step, {"op": "mean-square", "of": 1}]
    program = Program.of(steps, {"encoder.weight": weight, "encoder.bias": bias})
    one = Boxes.between(point, point, np.zeros((1, count)), np.eye(count)[None])
    pass_ = _Pass(program, one, "crown")
    unit = torch.eye(2, dtype=torch.float64).reshape(1, 2, 1, 2)
    least, most = pass_.backward(1, unit)[0][0], -pass_.backward(1, -unit)[0][0]
    forward = pass_.ranges[1]
    for i, value in enumerate(exact):
        assert as_fraction(told[i].lower()) <= value <= as_fraction(told[i].upper())
        assert Fraction(float(least[i])) <= value <= Fraction(float(most[i]))
        assert Fraction(float(forward.low[0, 0, i])) <= value
        assert value <= Fraction(float(forward.high[0, 0, i]))
        assert told[i].rad() <= 1e-12 * np.abs(weight[i] * point).sum() + 1e-12


RISING = (
    ({"op": "exp", "limits": "t", "steepness": 2.0}, [1.0, 0.0]),
    ({"op": "exp", "limits": "t", "steepness": -2.0}, [0.0, 1.0]),
    ({"op": "linear", "cap": "t"}, [-1.0]),
    ({"op": "sigmoid", "shape": "t"}, [1.0, -0.1]),
    ({"op": "isotonic", "knots": "t", "values": "t"}, [0.0, 0.5, 1.0]),
    ({"op": "sine", "phase": "t"}, [0.0]),
    (None, [0.0]),
)


@pytest.mark.parametrize(("step", "numbers"), RISING)
@pytest.mark.parametrize("loss", [-math.inf, 0.3, 5.0, math.nan])
def test_a_mapping_that_rises_or_that_nobody_knows_bounds_nothing(
    step: dict[str, Any] | None, numbers: list[float], loss: float
) -> None:
    tensors = {"mapping.t": np.array(numbers)}
    high = Reward({"loss": None, "mapping": step, "norms": {}}, [], tensors).base_high(arb(loss))
    assert not high < 1


FALLING = (
    ({"op": "exp", "limits": "t", "steepness": 2.0}, [0.0, 1.0]),
    ({"op": "linear", "cap": "t"}, [1.0]),
    ({"op": "sigmoid", "shape": "t"}, [1.0, 0.1]),
    ({"op": "isotonic", "knots": "t", "values": "v"}, [0.0, 0.5, 1.0]),
)


@pytest.mark.parametrize(("step", "numbers"), FALLING)
def test_a_mapping_falls_from_1_to_0(step: dict[str, Any], numbers: list[float]) -> None:
    tensors = {"mapping.t": np.array(numbers), "mapping.v": np.array([1.0, 0.4, 0.0])}
    bounds = Reward({"loss": None, "mapping": step, "norms": {}}, [], tensors)
    high = [float(bounds.base_high(arb(loss))) for loss in (-math.inf, 0.0, 0.3, 0.7, 50.0)]
    assert high[:2] == pytest.approx([1, 1])
    assert high == sorted(high, reverse=True)
    assert high[3] < 0.96
    assert high[4] < 1e-12
    assert not bounds.base_high(arb(math.nan)) <= 1


def test_sharp_gates_are_bounded_over_wide_boxes() -> None:
    """Softmax weights of logits that differ by hundreds, at places of the box drawn at random."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        (k, m, q), size = rng.integers(1, 5, 3), 10 ** rng.uniform(-2, 3)
        z, y = rng.normal(size=(k, 1 + q)) * size, rng.normal(size=(k, m, 1 + q))
        (told,) = mixture(ball(z), ball(y))
        t = np.c_[np.ones(50), rng.uniform(-1, 1, (50, q)).round(rng.integers(3))]
        logits, rows = t @ z.T, np.einsum("tq,kmq->tkm", t, y)
        value = np.einsum("tk,tkm->tm", scipy.special.softmax(logits, axis=1), rows)
        for place, numbers in zip(t, value, strict=True):
            for form, number in zip(told, numbers, strict=True):
                assert (form @ place).overlaps(arb(number, 1e-9))
                assert (form @ place).is_finite()


@pytest.mark.parametrize("words", [{"effect": "boost"}, {"profile": "cosine"}])
def test_a_kernel_of_unknown_shape_is_not_bounded(words: dict[str, str]) -> None:
    entry = {"id": "k", "kind": "kernels", "count": 1, "profile": "wendland"} | words
    tensors = {"centers": np.zeros((1, 2)), "radii": np.ones(1), "strengths": np.ones(1)}
    named = {f"correction.k.{name}": array for name, array in tensors.items()}
    bounds = Reward({"loss": None, "mapping": None, "norms": {}}, [entry], named)
    with pytest.raises(KeyError):
        list(bounds.lifts(box(np.zeros(2), np.ones(2), np.zeros(2), np.eye(2))))


def test_what_declares_no_formula_is_not_trusted() -> None:
    model = drawn_model(1, kernels=False).evolve(
        encoder=Given(lambda states: 0 * states[:, 0]), corrections=()
    )
    formula = formula_of(model)
    assert formula.parts["loss"] is None
    low, high, origin, axes = drawn_boxes(model, 1, sliced=False)
    bound = Ceiling(formula, 0.0, "crown")(Boxes.between(low, high, origin, axes))
    assert ((bound.ceiling == 1) | (bound.ceiling == -1)).all()
    assert (bound.ceiling == 1).any()
    assert not math.isnan(float(bound.ceiling.sum()))


def test_demonstrations_stay_as_they_are() -> None:
    data: Demonstrations = drawn_model(3).demonstrations
    assert not data.states.flags.writeable


def test_distances_that_overflow_are_not_known() -> None:
    """A state is far inside a support of 1e200; its distance, squared, is no float64."""
    parts = {"norms": {"s": {"op": "support", "boundary": "b"}}}
    tensors = {"demonstrations.states": np.array([[1e200]]), "norm.s.b": np.array([2e200])}
    state = box(np.zeros(1), np.zeros(1), np.zeros(1), np.eye(1))
    assert not Reward(parts, [], tensors).violation("s", state) >= 0
    kernel = {"centers": np.array([[1e200]]), "radii": np.array([1e200]), "strengths": np.ones(1)}
    entry = {"id": "k", "kind": "kernels", "profile": "gaussian", "effect": "lift"}
    named = {f"correction.k.{name}": array for name, array in kernel.items()}
    assert not sum(Reward(parts, [entry], named).lifts(state)) <= 0.5


@pytest.mark.parametrize("what", [{"radii": -1.0}, {"strengths": -1.0}])
def test_a_kernel_that_no_engine_makes_is_not_bounded(what: dict[str, float]) -> None:
    tensors = {"centers": np.zeros((1, 1)), "radii": np.ones(1), "strengths": np.ones(1)}
    named = {f"correction.k.{n}": array * what.get(n, 1.0) for n, array in tensors.items()}
    state = box(np.zeros(1), np.zeros(1), np.zeros(1), np.eye(1))
    entry = {"id": "k", "kind": "kernels", "profile": "wendland"}
    assert not sum(Reward({"norms": {}}, [entry], named).lifts(state)) <= 9


def test_knots_that_fall_bound_nothing() -> None:
    tensors = {"mapping.t": np.array([1.0, 0.0]), "mapping.v": np.array([1.0, 0.0])}
    step = {"op": "isotonic", "knots": "t", "values": "v"}
    parts = {"loss": None, "mapping": step, "norms": {}}
    assert not Reward(parts, [], tensors).base_high(arb(0)) < 1


def test_an_operation_with_a_word_that_nobody_knows_bounds_nothing() -> None:
    """A leaky ReLU, a curve with a floor, a norm with a tolerance: what they mean is not known."""
    loss = [{"op": "relu", "of": 0, "slope": "a"}, {"op": "mean-square", "of": 1}]
    parts = {
        "loss": loss,
        "mapping": {"op": "linear", "cap": "a", "least": "a"},
        "norms": {"n": {"op": "linear", "a": [1.0], "b": 9.0, "slack": 1.0}},
    }
    reward = Reward(parts, [], {"encoder.a": np.ones(1), "mapping.a": np.ones(1)})
    state = box(np.zeros(1), np.zeros(1), np.zeros(1), np.eye(1))
    with pytest.raises(Refused, match="slope"):
        reward.loss_low(state)
    assert not reward.base_high(arb(5)) < 1
    assert not reward.violation("n", state) <= 0


def test_a_fade_that_ends_before_it_starts_takes_nothing() -> None:
    """No reading of it takes all where the violation is 3, short of its start and past its end."""
    norm = {"op": "linear", "a": [1.0], "b": 0.0}
    parts = {"loss": None, "mapping": None, "norms": {"n": norm}}
    fade = {"id": "f", "kind": "fade", "norm": "n", "start": 4.0, "end": -1.0}
    state = box(np.ones(1), np.full(1, 3.0), np.zeros(1), np.eye(1))
    assert not Reward(parts, [fade], {}).holds(state, 0.01, 0.0)
