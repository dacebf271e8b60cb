"""Corrections: their exact values, and that they can be stored and taken back."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import iirl_engine as iirl
from iirl_encoders.knn import Knn
from iirl_encoders.mappings import Exp
from iirl_encoders.options import ExpOptions, KnnOptions
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.corrections.base import View
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.fade import Fade, fade
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.corrections.restore import restore
from iirl_engine.corrections.revision import Revision
from iirl_engine.corrections.sculpt import Sculpt
from iirl_engine.demonstrations import check
from iirl_engine.testing import worlds

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


def cut(**changes: Any) -> Cut:
    given: dict[str, Any] = {
        "normals": [[1.0, 0.0, 0.0], [0.0, -2.0, 1.0]],
        "offsets": [0.5, 1.0],
        "widths": [0.25, 0.5],
    }
    return Cut(id="c", refiner="r", round=1, **given | changes)


def test_a_cut_is_the_formula() -> None:
    given = cut()
    base = np.linspace(0, 1, len(STATES))
    share = ((STATES @ given.normals.T - given.offsets) / given.widths).max(axis=1) + 1
    share = share.clip(0, 1)
    taken = given.suppression(View(torch.tensor(STATES), torch.tensor(base))).numpy()
    assert taken == pytest.approx(base * (3 * share**2 - 2 * share**3), abs=1e-12)
    assert 0 < (taken == 0).mean() < 1


def test_a_cut_is_nothing_a_width_inside_and_all_from_its_planes() -> None:
    x = torch.tensor([0.0, 0.25, 0.375, 0.5, 9.0], dtype=torch.float64)
    states = torch.stack([x, 0 * x, 0 * x], dim=1)
    base = torch.full((5,), 0.8, dtype=torch.float64)
    view = View(states, base)
    assert cut().suppression(view).tolist() == [0.0, 0.0, 0.4, 0.8, 0.8]
    assert cut().silences(view).tolist() == [False, False, False, True, True]


def test_what_a_cut_silences_has_no_reward_in_any_batch() -> None:
    given = cut()
    on = GENERATOR.normal(size=(500, 3))
    on[:, 2] = 1.0 + 2 * on[:, 1]  # on the second plane, but for rounding
    states = torch.tensor(on)
    base = torch.tensor(GENERATOR.uniform(size=500))
    silenced = given.silences(View(states))
    alone = [given.suppression(View(states[i : i + 1], base[i : i + 1])) for i in range(500)]
    left = base - torch.cat(alone)
    assert 100 < int(silenced.sum()) < 500
    assert (left[silenced] == 0).all()


def test_a_cut_can_be_differentiated() -> None:
    states = torch.tensor(STATES[:20], requires_grad=True)

    def function(s: torch.Tensor) -> torch.Tensor:
        return cut().suppression(View(s, s.square().sum(dim=1)))

    assert torch.autograd.gradcheck(function, (states,))


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [0.0, 1.0]},
        {"normals": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]},
        {"offsets": [np.nan, 0.0]},
        {"offsets": [0.0]},
        {"normals": [1.0, 2.0]},
        {"normals": np.empty((0, 3)), "offsets": [], "widths": []},
    ],
)
def test_what_is_no_cut_is_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        cut(**change)


def test_where_a_correction_lifts_nothing_is_silenced_for_certain() -> None:
    model = worlds.Flat().model
    beyond = cut(normals=[[1.0, 0.0]], offsets=[0.0], widths=[0.1])
    states = torch.tensor([[0.5, 0.0], [-0.5, 0.0]], dtype=torch.float64)
    assert model.with_corrections([beyond]).silenced(states).tolist() == [True, False]
    lift = Kernels(
        id="l", refiner="r", round=1, centers=[[0.5, 0.0]], radii=[1], strengths=[1], effect="lift"
    )
    lifted = model.with_corrections([beyond, lift])
    assert not lifted.silenced(states).any()
    assert lifted.reward(states)[0] > 0


def sculpt(**changes: Any) -> Sculpt:
    given: dict[str, Any] = {"knots": [0.0, 0.3, 0.6, 1.0], "values": [0.0, 0.0, 0.5, 1.0]}
    return Sculpt(id="s", refiner="r", round=1, **given | changes)


@st.composite
def mappings(draw: st.DrawFn) -> Sculpt:
    unit = st.floats(0, 1)
    inner = draw(st.lists(unit, max_size=6, unique=True))
    knots = sorted({0.0, 1.0, *inner})
    drawn = sorted(draw(st.lists(unit, min_size=len(knots), max_size=len(knots))))
    return sculpt(knots=knots, values=np.minimum(drawn, knots))


@given(mappings(), st.lists(st.floats(0, 1), min_size=2))
def test_a_sculpted_mapping_is_monotone_and_never_raises(made: Sculpt, rewards: Any) -> None:
    base = torch.tensor(sorted(rewards), dtype=torch.float64)
    taken = made.suppression(View(torch.zeros(len(base), 3, dtype=torch.float64), base))
    assert (taken >= 0).all()
    assert (taken <= base).all()
    assert (made.mapped(base).diff() >= 0).all()
    interpolated = np.interp(base.numpy(), made.knots, made.values)
    assert made.mapped(base).numpy() == pytest.approx(interpolated, abs=1e-12)


def test_a_sculpture_in_a_ball_fades_out_with_distance() -> None:
    ball = sculpt(center=[1.0, 0.0, 0.0], inner=0.5, outer=1.5)
    x = torch.tensor([1.0, 1.5, 2.0, 2.5, 9.0], dtype=torch.float64)
    view = View(torch.stack([x, 0 * x, 0 * x], dim=1), torch.full_like(x, 0.3))
    assert ball.suppression(view).tolist() == pytest.approx([0.3, 0.3, 0.15, 0.0, 0.0])


def test_a_sculpture_does_not_depend_on_the_unit() -> None:
    base = torch.linspace(0, 1, len(STATES), dtype=torch.float64)
    one = sculpt(center=CENTERS[0], inner=0.5, outer=2.0)
    taken = one.suppression(View(torch.tensor(STATES), base))
    assert 0 < int((taken > 0).sum()) < len(STATES)
    for unit in (2.0**-900, 2.0**900):
        far = sculpt(center=CENTERS[0] * unit, inner=0.5 * unit, outer=2.0 * unit)
        assert torch.equal(far.suppression(View(torch.tensor(STATES * unit), base)), taken)


def test_a_sculpture_can_be_differentiated() -> None:
    ball = sculpt(center=CENTERS[0], inner=0.5, outer=2.0)
    states = torch.tensor(STATES[:20], requires_grad=True)

    def function(s: torch.Tensor) -> torch.Tensor:
        return ball.suppression(View(s, torch.exp(-s.square().sum(dim=1))))

    assert torch.autograd.gradcheck(function, (states,))


def test_a_base_reward_that_is_no_number_stays_none() -> None:
    base = torch.tensor([torch.nan], dtype=torch.float64)
    assert sculpt().suppression(View(torch.zeros(1, 3, dtype=torch.float64), base)).isnan().all()


@pytest.mark.parametrize(
    "change",
    [
        {"values": [0.0, 0.2, 0.1, 1.0]},
        {"values": [0.0, 0.4, 0.5, 1.0]},
        {"values": [-0.1, 0.0, 0.5, 1.0]},
        {"values": [0.0, 0.0, np.nan, 1.0]},
        {"values": [0.0, 1.0]},
        {"knots": [0.0, 0.6, 0.3, 1.0]},
        {"knots": [0.1, 0.3, 0.6, 1.0]},
        {"knots": [0.0], "values": [0.0]},
        {"center": [0.0, 0.0, 0.0]},
        {"center": [0.0, 0.0, 0.0], "inner": 2.0, "outer": 1.0},
        {"inner": 1.0, "outer": 2.0},
    ],
)
def test_what_is_no_sculpture_is_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        sculpt(**change)


@pytest.mark.parametrize(
    "correction",
    [
        kernels("wendland"),
        kernels("gaussian"),
        cut(),
        attrs.evolve(cut(), closes=7, approved="auto"),
        Kernels(
            id="k",
            refiner="r",
            round=1,
            centers=CENTERS,
            radii=RADII,
            strengths=STRENGTHS,
            space="code",
            scales=[1.0, 0.5, 2.0],
        ),
        Revision(
            id="u",
            refiner="r",
            round=1,
            encoder={"seed": np.array([2**60 + 1]), "width": np.float32([0.1])},
            mapping={"limits": np.array([0.0, 1.0])},
            rows=[1, 5],
        ),
        sculpt(),
        sculpt(center=CENTERS[0], inner=0.5, outer=2.0),
        Fade(id="f", refiner="r", round=2, norm="support", start=-0.1, end=0.0),
    ],
)
def test_a_correction_survives_a_release(correction: Any) -> None:
    back = restore(correction.describe(), correction.tensors())
    assert type(back) is type(correction)
    assert back.describe() == correction.describe()
    for name, array in correction.tensors().items():
        assert np.array_equal(back.tensors()[name], array)
        assert back.tensors()[name].dtype == array.dtype


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


def coded(**changes: Any) -> Kernels:
    """Kernels around codes of a model's own: two features and the residual."""
    given: dict[str, Any] = {
        "centers": GENERATOR.normal(size=(5, 3)),
        "radii": GENERATOR.uniform(1.0, 3.0, 5),
        "strengths": GENERATOR.uniform(0.1, 0.5, 5),
        "space": "code",
        "scales": [0.5, 2.0, 0.25],
    }
    return Kernels(id="k", refiner="r", round=1, **given | changes)


def test_kernels_in_the_space_of_codes_are_the_formula() -> None:
    given = coded(radii=np.full(5, 4.0))
    features, loss = GENERATOR.normal(size=(50, 2)), GENERATOR.uniform(0, 2, 50)
    places = np.column_stack([features, np.sqrt(loss)]) / given.scales
    r = cdist(places, given.centers) / given.radii
    formula = np.where(r < 1, (1 - r) ** 4 * (4 * r + 1), 0.0) @ given.strengths
    view = View(torch.zeros(50, 7), loss=torch.tensor(loss), features=torch.tensor(features))
    assert given.suppression(view).numpy() == pytest.approx(formula, abs=1e-12)
    assert formula.max() > 0


def test_the_residual_keeps_apart_what_the_features_take_for_the_same() -> None:
    """A kernel for a state off the manifold does not reach the state on it with its features."""
    off = View(torch.zeros(1, 3), loss=torch.ones(1).double(), features=torch.zeros(1, 2).double())
    on = View(torch.zeros(1, 3), loss=torch.zeros(1).double(), features=torch.zeros(1, 2).double())
    scales = [1.0, 1.0, 0.1]
    center = coded(scales=scales).places(off).numpy()
    kernel = coded(scales=scales, centers=center, radii=[2.0], strengths=[1.0])
    assert float(kernel.suppression(off)) == 1
    assert float(kernel.suppression(on)) == 0


@pytest.mark.parametrize("least", [0.0, 0.3])
def test_kernels_in_the_space_of_codes_can_be_differentiated(least: float) -> None:
    states, given = torch.tensor(STATES[:10], requires_grad=True), coded()

    def function(s: torch.Tensor) -> torch.Tensor:
        loss = least + (s - 1).square().sum(dim=1)
        return given.suppression(View(s, loss=loss, features=s[:, :2] * s[:, 1:]))

    assert torch.autograd.gradcheck(function, (states,))


def test_where_the_loss_is_nothing_the_slope_is_finite() -> None:
    states = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    view = View(states, loss=states.square().sum(dim=1), features=states[:, :2])
    coded().suppression(view).sum().backward()
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()


@pytest.mark.parametrize(
    "change",
    [
        {"scales": None},
        {"space": "state"},
        {"space": "moon"},
        {"scales": [1.0, 1.0]},
        {"scales": [1.0, 1.0, 0.0]},
    ],
)
def test_kernels_in_no_space_are_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        coded(**change)


def test_an_encoder_of_another_width_is_refused() -> None:
    view = View(torch.zeros(1, 3), loss=torch.zeros(1), features=torch.zeros(1, 4))
    with pytest.raises(ValueError, match="scales for 2 features"):
        coded().suppression(view)


def test_revised_parts_are_the_reward_s_and_taking_them_away_restores_it_to_the_bit() -> None:
    first = learned()
    rows = np.arange(0, 40, 3)
    keep = np.setdiff1d(np.arange(40), rows)
    rest = learned(keep)
    revision = Revision.of(rest.encoder, rest.mapping, rows, id="u", refiner="r", round=1)
    revised = first.with_corrections([revision])
    states = torch.tensor(GENERATOR.normal(size=(100, 3)))
    assert torch.equal(revised.reward(states), rest.reward(states))
    for found, expected in zip(
        revised.reward_and_gradient(states), rest.reward_and_gradient(states), strict=True
    ):
        assert torch.equal(found, expected)
    assert not torch.equal(revised.reward(states), first.reward(states))
    back = revised.evolve(corrections=())
    assert torch.equal(back.reward(states), first.reward(states))
    assert back.encoder is first.encoder


def test_of_several_revisions_the_last_holds_and_each_tells_its_share() -> None:
    first = learned()
    made = []
    for number, rows in enumerate([[0, 1], [0, 1, 2, 3]]):
        rest = learned(np.setdiff1d(np.arange(40), rows))
        made.append(
            Revision.of(rest.encoder, rest.mapping, rows, id=f"u{number}", refiner="r", round=1)
        )
    both = first.with_corrections(made)
    states = GENERATOR.normal(size=(30, 3))
    assert np.array_equal(both(states), rest(states))
    for told in both.explain(states):
        shares = dict(told.corrections)
        assert told.base - sum(shares.values()) == pytest.approx(told.reward, abs=1e-12)
    assert {name for told in both.explain(states) for name, _ in told.corrections} == {"u0", "u1"}


@pytest.mark.parametrize("rows", [[3, 1], [1, 1], [-1], [0.5], [[1]], [40], list(range(40))])
def test_a_revision_of_rows_that_there_are_not_is_refused(rows: Any) -> None:
    first = learned()
    with pytest.raises(ValueError, match=r"rows must|forgets"):
        first.with_corrections(
            [Revision.of(first.encoder, first.mapping, rows, id="u", refiner="r", round=1)]
        )


def learned(rows: Any = slice(None)) -> iirl.RewardModel:
    """A reward learned from some rows of 40 demonstrations, which it all has."""
    data = check(np.random.default_rng(2).normal(size=(40, 3)))
    some = check(data.states[rows])
    encoder, mapping = Knn(KnnOptions(k=3)), Exp(ExpOptions())
    encoder.fit(some, iirl.Context("encoder", "knn", 0, 0))
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(some.states)).loss
    mapping.fit(loss, iirl.Context("mapping", "exp", 0, 0))
    norm = SupportNorm(SupportOptions(boundary=1.0))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    domain = iirl.Domain((-3.0,) * 3, (3.0,) * 3)
    return iirl.RewardModel(encoder, mapping, {"support": norm}, data, domain)
