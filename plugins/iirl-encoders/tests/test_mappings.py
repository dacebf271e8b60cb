"""Mappings: monotone, within [0, 1], and what their formula says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import iirl_engine as iirl
from iirl_encoders.mappings import Exp, Linear
from iirl_encoders.options import ExpOptions, LinearOptions

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


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="l_min must be below l_max"):
        ExpOptions(l_min=2.0, l_max=1.0)
