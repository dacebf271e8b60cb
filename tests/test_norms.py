"""Norms: sign, measure and gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import iirl_engine as iirl
from iirl_engine import DataError, Flywheel
from iirl_engine.builtin.norms import BoxNorm, LinearNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, LinearOptions, SupportOptions
from iirl_engine.demonstrations import check

DATA = check(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), feature_names=("x", "y"))
CONTEXT = iirl.Context("norm", "n", 0, 0)


def fitted(norm: Any) -> Any:
    norm.fit(DATA, CONTEXT)
    return norm


def violation(norm: Any, *states: list[float]) -> list[float]:
    return fitted(norm).violation(torch.tensor(states, dtype=torch.float64)).tolist()


def test_support_measures_the_distance_beyond_the_boundary() -> None:
    norm = SupportNorm(SupportOptions(boundary=1.0))
    assert violation(norm, [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]) == [-1.0, 0.0, 1.0]


def test_support_finds_a_boundary_from_the_spacing_of_the_experts() -> None:
    line = check(np.arange(101.0)[:, None])
    norm = SupportNorm(SupportOptions())
    norm.fit(line, CONTEXT)
    assert norm.violation(torch.tensor([[50.0], [103.0]], dtype=torch.float64)).tolist() == [
        -2.0,
        1.0,
    ]


@pytest.mark.parametrize("forbid", [False, True])
def test_a_box_limits_named_features_from_within_or_without(forbid: bool) -> None:
    options = BoxOptions(features=("y",), low=(-1.0,), high=(2.0,), forbid=forbid)
    inside_out = violation(BoxNorm(options), [99.0, 0.0], [99.0, 2.0], [99.0, 5.0])
    assert inside_out == ([1.0, 0.0, -3.0] if forbid else [-1.0, 0.0, 3.0])


def test_a_half_space_measures_the_distance_to_its_face() -> None:
    norm = LinearNorm(LinearOptions(a=(3.0, 4.0), b=10.0))
    assert violation(norm, [0.0, 0.0], [2.0, 1.0], [6.0, 8.0]) == [-2.0, 0.0, 8.0]


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e200, 1e307])
def test_a_half_space_of_any_size_is_the_same(size: float) -> None:
    norm = LinearNorm(LinearOptions(a=(3.0 * size, 4.0 * size), b=10.0 * size))
    norm.bind(("x", "y"))
    states = torch.tensor([[2.0, 1.0], [6.0, 8.0]], dtype=torch.float64)
    assert norm.violation(states).tolist() == pytest.approx([0.0, 8.0], abs=1e-12)


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (BoxNorm(BoxOptions(features=("z",), low=(0.0,), high=(1.0,))), "z"),
        (LinearNorm(LinearOptions(a=(1.0,), b=0.0)), "1 coefficients"),
    ],
)
def test_a_norm_that_does_not_fit_the_features_says_so(norm: Any, said: str) -> None:
    with pytest.raises(iirl.DataError, match=said):
        fitted(norm)


NORMS = [
    SupportNorm(SupportOptions(boundary=0.5)),
    BoxNorm(BoxOptions(features=("x", "y"), low=(-1.0, -1.0), high=(1.0, 2.0))),
    BoxNorm(BoxOptions(features=("y", "x"), low=(-1.0, -1.0), high=(1.0, 2.0), forbid=True)),
    LinearNorm(LinearOptions(a=(1.0, -2.0), b=0.3)),
]


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_rows_do_not_depend_on_their_batch(norm: Any, seed: int) -> None:
    states = torch.tensor(np.random.default_rng(seed).normal(size=(8, 2)))
    together = fitted(norm).violation(states)
    assert torch.equal(together, torch.cat([norm.violation(row[None]) for row in states]))


@pytest.mark.parametrize("norm", NORMS)
def test_the_measure_can_be_differentiated(norm: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(20, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(fitted(norm).violation, (states,))


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_survives_a_release(norm: Any, tmp_path: Path) -> None:
    states = torch.randn(20, 2, dtype=torch.float64)
    expected = fitted(norm).violation(states)
    again = type(norm)(norm.options)
    again.restore(norm.tensors(), DATA)
    assert torch.equal(again.violation(states), expected)


def test_a_norm_that_does_not_fit_the_states_says_which_norm_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "demos.npz", states=np.random.default_rng(0).normal(size=(20, 2)))
    chain = tmp_path / "chain.toml"
    chain.write_text(
        '[source]\nuse = "npz"\npath = "demos.npz"\n'
        '[encoder]\nuse = "knn"\n[mapping]\nuse = "exp"\n'
        '[[norm]]\nuse = "box"\nid = "wet-floor"\nfeatures = ["z"]\nlow = [0.0]\nhigh = [1.0]\n'
        '[[audit]]\nuse = "sobol"\n[[refine]]\nuse = "kernel-lp"\n'
    )
    with pytest.raises(DataError, match="features that the states do not have: z") as raised:
        Flywheel.from_file(chain, out=tmp_path / "out").run()
    assert f"where: norm wet-floor in {chain}" in " ".join(str(raised.value).split())
