"""Corrections: their exact values, and that they can be stored and taken back."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from iirl_engine.corrections.base import View
from iirl_engine.corrections.fade import Fade, fade
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.corrections.restore import restore

GENERATOR = np.random.default_rng(0)
CENTERS = GENERATOR.normal(size=(30, 3))
RADII = GENERATOR.uniform(0.2, 2.0, 30)
STRENGTHS = GENERATOR.uniform(0.0, 3.0, 30)
STATES = GENERATOR.normal(size=(200, 3))


def kernels(profile: Literal["wendland", "gaussian"], unit: float = 1.0) -> Kernels:
    return Kernels(
        id="k",
        refiner="r",
        round=1,
        centers=CENTERS * unit,
        radii=RADII * unit,
        strengths=STRENGTHS,
        profile=profile,
    )


def suppression(correction: Any, states: np.ndarray) -> np.ndarray:
    given = torch.tensor(states)
    return correction.suppression(View(given)).numpy()


def test_wendland_kernels_are_the_formula() -> None:
    r = cdist(STATES, CENTERS) / RADII
    formula = np.where(r < 1, (1 - r) ** 4 * (4 * r + 1), 0.0) @ STRENGTHS
    assert suppression(kernels("wendland"), STATES) == pytest.approx(formula, abs=1e-12)


def test_gaussian_kernels_are_the_formula_to_the_stated_error() -> None:
    r = cdist(STATES, CENTERS) / RADII
    formula = np.exp(-(r**2) / 2) @ STRENGTHS
    assert suppression(kernels("gaussian"), STATES) == pytest.approx(formula, abs=1e-10)


def test_lifting_kernels_give_what_suppressing_ones_take() -> None:
    lifts = attrs.evolve(kernels("wendland"), effect="lift")
    assert np.array_equal(suppression(lifts, STATES), -suppression(kernels("wendland"), STATES))
    assert lifts.describe()["effect"] == "lift"
    assert "effect" not in kernels("wendland").describe()  # as before kernels could lift
    same = restore(lifts.describe(), lifts.tensors())
    assert isinstance(same, Kernels)
    assert same.effect == "lift"
    with pytest.raises(ValueError, match="effect must be suppress or lift"):
        attrs.evolve(lifts, effect="raise")


@pytest.mark.parametrize("profile", ["wendland", "gaussian"])
@pytest.mark.parametrize("unit", [2.0**-900, 2.0**900])
def test_kernels_do_not_depend_on_the_unit(profile: Any, unit: float) -> None:
    scaled = suppression(kernels(profile, unit), STATES * unit)
    assert np.array_equal(scaled, suppression(kernels(profile), STATES))


@pytest.mark.parametrize("profile", ["wendland", "gaussian"])
def test_kernels_can_be_differentiated(profile: Any) -> None:
    states = torch.tensor(STATES[:20], requires_grad=True)
    function = kernels(profile).suppression
    assert torch.autograd.gradcheck(lambda s: function(View(s)), (states,))


def test_a_kernel_is_flat_at_its_centre_and_not_undefined() -> None:
    centre = torch.tensor(CENTERS[:1], requires_grad=True)
    correction = kernels("wendland")
    correction.suppression(View(centre)).sum().backward()
    assert centre.grad is not None
    assert torch.isfinite(centre.grad).all()


def test_a_fade_is_nothing_before_its_start_and_all_from_its_end() -> None:
    violation = torch.tensor([-9.0, -2.0, -1.5, -1.0, 0.0, 5.0, torch.inf, torch.nan])
    share = fade(violation, -2.0, -1.0)
    assert share.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    rising = fade(torch.linspace(-2, -1, 101), -2.0, -1.0)
    assert (rising.diff() >= 0).all()


@pytest.mark.parametrize(
    "correction",
    [
        kernels("wendland"),
        kernels("gaussian"),
        Fade(id="f", refiner="r", round=2, norm="support", start=-0.1, end=0.0),
    ],
)
def test_a_correction_survives_a_release(correction: Any) -> None:
    back = restore(correction.describe(), correction.tensors())
    assert type(back) is type(correction)
    assert back.describe() == correction.describe()
    for name, array in correction.tensors().items():
        assert np.array_equal(back.tensors()[name], array)


@pytest.mark.parametrize(
    "change",
    [
        {"radii": np.zeros(30)},
        {"strengths": -STRENGTHS},
        {"strengths": np.full(30, np.nan)},
        {"centers": np.full((30, 3), np.inf)},
        {"centers": CENTERS[:3]},
        {"profile": "box"},
    ],
)
def test_kernels_without_a_value_everywhere_are_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        attrs.evolve(kernels("wendland"), **change)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (-1.0, 0.1), (-1.0, -2.0), (np.nan, 0.0)])
def test_a_fade_beyond_its_norm_or_of_no_width_is_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="start < end <= 0"):
        Fade(id="f", refiner="r", round=1, norm="n", start=start, end=end)
