"""Mappings: monotone, within [0, 1], and what their formula says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import iirl_engine as iirl
from iirl_encoders.mappings import Exp, Isotonic, Linear, Sigmoid
from iirl_encoders.options import ExpOptions, IsotonicOptions, LinearOptions, SigmoidOptions

CONTEXT = iirl.Context("mapping", "m", 0, 0)
LOSSES = st.lists(st.floats(0, 1e308), min_size=1, max_size=30)


def fitted(mapping: Any, loss: list[float]) -> Any:
    mapping.fit(torch.tensor(loss, dtype=torch.float64), CONTEXT)
    return mapping


MAPPINGS = [
    (Exp, ExpOptions()),
    (Exp, ExpOptions(steepness=7.0)),
    (Exp, ExpOptions(l_min=0.5, l_max=2.0)),
    (Exp, ExpOptions(l_max=2.0)),
    (Exp, ExpOptions(l_min=3.0)),
    (Linear, LinearOptions()),
    (Linear, LinearOptions(cap=0.3)),
    (Sigmoid, SigmoidOptions()),
    (Sigmoid, SigmoidOptions(middle=2.0, width=0.1)),
    (Sigmoid, SigmoidOptions(width=1e-300)),
    (Sigmoid, SigmoidOptions(width=1e300)),
    (Isotonic, IsotonicOptions()),
    (Isotonic, IsotonicOptions(knots=(0.5, 1.0, 3.0))),
    (Isotonic, IsotonicOptions(knots=(0.1, 0.3, 1e300), values=(0.9, 0.7, 0.3))),
    (Isotonic, IsotonicOptions(knots=(2.0,), values=(0.0,))),
]


@pytest.mark.parametrize(("cls", "options"), MAPPINGS)
@given(expert=LOSSES, asked=LOSSES)
@settings(max_examples=60, deadline=None)
def test_every_mapping_is_bounded_and_never_rises(
    cls: Any, options: Any, expert: list[float], asked: list[float]
) -> None:
    mapping = fitted(cls(options), expert)
    rewards = mapping.map(torch.tensor(sorted(asked), dtype=torch.float64))
    assert ((rewards >= 0) & (rewards <= 1)).all()
    assert (rewards.diff() <= 0).all()
    assert mapping.map(torch.tensor([math.inf], dtype=torch.float64)).item() == 0.0
    assert not mapping.map(torch.tensor([math.nan], dtype=torch.float64)).item() > 0


@pytest.mark.parametrize(("cls", "options"), MAPPINGS)
def test_a_mapping_survives_a_release(cls: Any, options: Any) -> None:
    mapping, again = fitted(cls(options), [0.1, 0.2, 0.7]), cls(options)
    again.restore(mapping.tensors())
    loss = torch.linspace(0, 5, 50, dtype=torch.float64)
    assert torch.equal(again.map(loss), mapping.map(loss))


def test_exp_is_the_formula() -> None:
    mapping = fitted(Exp(ExpOptions(steepness=2.0, l_min=0.5, l_max=1.5)), [1.0])
    loss = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.5], dtype=torch.float64)
    expected = [1.0, 1.0, math.exp(-1), math.exp(-2), math.exp(-4)]
    assert mapping.map(loss).tolist() == pytest.approx(expected)


def test_linear_is_the_formula() -> None:
    mapping = fitted(Linear(LinearOptions(cap=0.3)), [1.0])
    loss = torch.tensor([0.0, 0.15, 0.3, 9.0], dtype=torch.float64)
    assert mapping.map(loss).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_sigmoid_is_the_formula() -> None:
    mapping = fitted(Sigmoid(SigmoidOptions(middle=2.0, width=0.5)), [1.0])
    loss = torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64)
    top = 1 / (1 + math.exp(-4))
    expected = [1.0, 0.5 / top, 1 / (1 + math.exp(2)) / top]
    assert mapping.map(loss).tolist() == pytest.approx(expected)


def test_sigmoid_by_default_keeps_experts_and_ends_where_linear_does() -> None:
    loss = torch.linspace(0, 1, 101, dtype=torch.float64)
    mapping = fitted(Sigmoid(SigmoidOptions()), loss.tolist())
    rewards = mapping.map(torch.tensor([0.99, 2.97], dtype=torch.float64)).tolist()
    assert rewards == pytest.approx([0.883, 0.0025], abs=1e-4)


def test_isotonic_by_default_is_linear() -> None:
    expert = np.random.default_rng(0).random(500).tolist()
    loss = torch.linspace(0, 5, 200, dtype=torch.float64)
    isotonic = fitted(Isotonic(IsotonicOptions()), expert)
    linear = fitted(Linear(LinearOptions()), expert)
    torch.testing.assert_close(isotonic.map(loss), linear.map(loss), rtol=0, atol=1e-12)
    assert len(isotonic.tensors()["knots"]) == 12


def test_isotonic_runs_through_its_knots_and_falls_to_0_behind_them() -> None:
    options = IsotonicOptions(knots=(1.0, 2.0, 4.0), values=(0.8, 0.6, 0.2))
    mapping = fitted(Isotonic(options), [1.0])
    loss = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0], dtype=torch.float64)
    expected = [0.8, 0.8, 0.7, 0.6, 0.4, 0.2, 0.1, 0.0, 0.0]
    assert mapping.map(loss).tolist() == pytest.approx(expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), LOSSES)
@settings(max_examples=100, deadline=None)
def test_isotonic_stays_monotone_whatever_values_it_is_given(
    values: list[float], asked: list[float]
) -> None:
    mapping = fitted(Isotonic(IsotonicOptions(knots=(0.0, 1.0, 5.0))), [1.0])
    assert len(mapping.tensors()["knots"]) == 3
    edited = mapping.with_values(values[:3])
    rewards = edited.map(torch.tensor(sorted(asked), dtype=torch.float64))
    assert ((rewards >= 0) & (rewards <= 1)).all()
    assert (rewards.diff() <= 0).all()


def test_isotonic_takes_values_that_fall_as_they_are_and_the_nearest_to_others() -> None:
    mapping = fitted(Isotonic(IsotonicOptions(knots=(0.0, 1.0, 2.0, 3.0))), [1.0])
    before = mapping.tensors()["values"].clone()
    assert mapping.with_values([0.9, 0.5, 0.1, 0.0]).tensors()["values"].tolist() == [
        0.9,
        0.5,
        0.1,
        0.0,
    ]
    mended = mapping.with_values([0.4, 0.6, 0.1, 0.0])
    assert mended.tensors()["values"].tolist() == pytest.approx([0.5, 0.5, 0.1, 0.0])
    leaning = mapping.with_values([0.4, 0.6, 0.1, 0.0], strength=[3.0, 1.0, 1.0, 1.0])
    assert leaning.tensors()["values"].tolist() == pytest.approx([0.45, 0.45, 0.1, 0.0])
    assert torch.equal(mapping.tensors()["values"], before)
    with pytest.raises(ValueError, match="4 finite numbers"):
        mapping.with_values([0.9, math.nan, 0.1, 0.0])
    with pytest.raises(ValueError, match="4 finite numbers"):
        mapping.with_values([0.9])


@pytest.mark.parametrize(
    "tensors",
    [
        {"knots": [0.0, 1.0], "values": [0.5, 0.6]},
        {"knots": [0.0, 1.0], "values": [0.5, 0.1]},
        {"knots": [1.0, 0.0], "values": [0.5, 0.0]},
        {"knots": [0.0, 1.0], "values": [1.5, 0.0]},
        {"knots": [0.0, 1.0], "values": [math.nan, 0.0]},
    ],
)
def test_isotonic_restores_nothing_that_rises(tensors: dict[str, list[float]]) -> None:
    mapping = Isotonic(IsotonicOptions())
    with pytest.raises(ValueError, match="knots must rise"):
        mapping.restore({n: torch.tensor(t, dtype=torch.float64) for n, t in tensors.items()})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"knots": ()}, "knots must rise"),
        ({"knots": (0.0,)}, "knots must rise"),
        ({"knots": (1.0, 1.0)}, "knots must rise"),
        ({"values": (1.0,)}, "as many knots"),
        ({"knots": (1.0, 2.0), "values": (1.0,)}, "as many knots"),
        ({"knots": (1.0, 2.0), "values": (0.1, 0.2)}, "never rise"),
    ],
)
def test_isotonic_options_that_contradict_are_refused(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        IsotonicOptions(**options)


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="l_min must be below l_max"):
        ExpOptions(l_min=2.0, l_max=1.0)
