"""The pictures, of a toy reward that endorses rings around the expert states."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor

from iirl_engine.api import Code, Context, Encoder
from iirl_engine.api import Mapping as RewardMapping
from iirl_engine.builtin.landscape import Landscape, draw
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.builtin.scene import CIRCLES
from iirl_engine.corrections.fade import Fade
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.errors import UsageError
from iirl_engine.options import NoOptions
from iirl_engine.records import Demonstrations, Flaws, Outcome, Report
from iirl_engine.reward import RewardModel

FLOOR = 0.01


class Ripples(Encoder[NoOptions]):
    """L rises and falls with the distance to the expert states: rings far away look expert."""

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        self._support = demonstrations.support
        self._unit = float(np.abs(demonstrations.states).max()) or 1.0

    def encode(self, states: Tensor) -> Code:
        distance = self._support.distance(states) / self._unit
        return Code(states, torch.sin(5 * distance).square())

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        raise NotImplementedError


class Decay(RewardMapping[NoOptions]):
    """g(L) = exp(-8 L) - 0.01."""

    def fit(self, loss: Tensor, context: Context) -> None:
        pass

    def map(self, loss: Tensor) -> Tensor:
        return torch.exp(-8 * loss) - 0.01

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        raise NotImplementedError


def report_of(
    states: Any,
    *,
    found: int = 300,
    closed: bool = True,
    names: Sequence[str] | None = None,
    chain: str = "",
) -> Report:
    """Return the report of a run that found `found` flaws by looking around at random."""
    data = check(states, feature_names=names, origin="toy")
    context = Context("encoder", "toy", 0, 0)
    encoder, mapping = Ripples(NoOptions()), Decay(NoOptions())
    boundary = 0.2 * (float(np.abs(data.states).max()) or 1.0) or 1.0
    norm = SupportNorm(SupportOptions(boundary=boundary))
    encoder.fit(data, context)
    norm.fit(data, context)
    near = widened_range(data.states)
    domain = widened_range(np.array([near.low, near.high]))
    before = RewardModel(encoder, mapping, {"support": norm}, data, domain)
    fade = Fade(id="r1-fade", refiner="toy", round=1, norm="support", start=-boundary / 2, end=0.0)
    after = before.with_corrections([fade]) if closed else before
    flaws = _flaws(before, found)
    still_open = after(flaws.states) > FLOOR if len(flaws) else np.zeros(0, dtype=np.bool_)
    outcome = Outcome(
        run=Path("runs/toy"),
        release=Path("runs/toy/releases/0001"),
        rounds=(),
        open_flaws=int(still_open.sum()),
        plugins=(("iirl-engine", "0.1.0"),),
    )
    return Report(outcome, before, after, flaws, still_open, FLOOR, chain)


def _flaws(model: RewardModel, most: int) -> Flaws:
    low, high = np.array(model.domain.low), np.array(model.domain.high)
    share = np.random.default_rng(0).random((20 * most + 1, model.width))
    states = low * (1 - share) + high * share
    with torch.no_grad():
        violations = model.violation(torch.tensor(states)).numpy()
    rewards = model(states)
    rows = np.flatnonzero((rewards > FLOOR) & (violations > 0))[:most]
    return Flaws(
        ids=tuple(f"{i:064x}" for i in range(len(rows))),
        states=states[rows],
        rewards=rewards[rows],
        violations=violations[rows],
        norms=("support",) * len(rows),
        auditors=("look",) * len(rows),
    )


def expert(width: int, count: int = 30) -> np.ndarray[Any, np.dtype[np.float64]]:
    line = np.linspace(0.0, 1.0, count)
    return np.stack([np.sin((i + 1) * line + i) for i in range(width)], axis=1)


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]


def reds(png: bytes) -> int:
    """Count pixels of the circles' red."""
    image = pixels(png)
    return int(((image[..., 0] > 0.8) & (image[..., 1:] < 0.25).all(axis=-1)).sum())


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_same_report_gives_the_same_bytes(width: int) -> None:
    report = report_of(expert(width))
    first, second = draw(report), draw(report)
    assert first == second
    assert first.before.png != first.after.png
    for picture in (first.before, first.after):
        assert picture.png.startswith(b"\x89PNG")
        assert b"tEXt" not in picture.png
        assert len(picture.png) < 190_000


def greys(png: bytes) -> int:
    """Count pixels of the grey that limits are drawn in, within the plot."""
    image = pixels(png)[100:420, 60:450]
    return int((np.abs(image - np.array([0x5A, 0x5A, 0x66]) / 255).max(axis=-1) < 0.02).sum())


def test_a_map_shows_where_norms_begin_to_forbid() -> None:
    report = report_of(expert(2))
    boundless = SupportNorm(SupportOptions(boundary=1e6))
    boundless.fit(report.after.demonstrations, Context("norm", "support", 0, 0))
    nothing = attrs.evolve(report, after=report.after.evolve(norms={"support": boundless}))
    with_limit, without = draw(report), draw(nothing)
    assert greys(with_limit.after.png) > greys(without.after.png) + 100
    assert "begin to forbid" in with_limit.caption
    assert "begin to forbid" not in without.caption


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_flaws_are_circled_before_and_those_still_open_after(width: int) -> None:
    mended = draw(report_of(expert(width)))
    untouched = draw(report_of(expert(width), closed=False))
    # The legend's own circle is always there.
    assert reds(mended.before.png) > 5 * reds(mended.after.png) > 0
    assert reds(untouched.after.png) == reds(mended.before.png)


def test_the_text_beside_a_picture_says_what_it_shows() -> None:
    report = report_of(expert(3))
    shown = draw(report)
    assert len(report.flaws) == 300
    assert f"300 confirmed flaws, {CIRCLES} of them circled in red" in shown.before.alt
    assert "0 flaws still open" in shown.after.alt
    assert f"{CIRCLES} of 300 flaws are circled before" in shown.caption
    assert "above the floor 0.01 are drawn" in shown.caption
    assert "30 expert states" in shown.before.alt


def test_a_flawless_run_is_drawn_without_circles() -> None:
    shown = draw(report_of(expert(2), found=0))
    assert "0 confirmed flaws" in shown.before.alt
    assert "circled" not in shown.caption
    assert reds(shown.before.png) == reds(shown.after.png)


def test_of_wide_states_two_features_that_vary_are_drawn() -> None:
    states = expert(5)
    states[:, 0] = 7.0
    shown = draw(report_of(states))
    assert shown.caption.startswith("Reward over x1 and x2,")
    assert "expert state nearest in those that are" in shown.caption


def test_features_can_be_chosen() -> None:
    report = report_of(expert(5))
    assert draw(report, ("x4", "x2")).caption.startswith("Reward over x4 and x2,")
    assert draw(report, ("x4", "x2", "x0")).caption.startswith("Reward over x4, x2 and x0,")


@pytest.mark.parametrize("features", [(), ("x0", "x0"), ("x0", "up"), ("x0", "x1", "x2", "x3")])
def test_features_that_cannot_be_drawn_are_refused(features: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="one to three different names"):
        draw(report_of(expert(5), found=0), features)


def test_a_map_shows_the_reward_where_it_is() -> None:
    shown = draw(report_of([[0.0, 0.0], [1.0, 1.0]], found=0))
    image = pixels(shown.after.png)
    yellow = (np.abs(image - np.array([253, 231, 37]) / 255) < 0.02).all(axis=-1)
    # The upper half of the scale is the one with more blue than red; the bar is at the right.
    high = image[..., 2] - image[..., 0] > 0.15
    rows, columns = np.nonzero(high[:, : image.shape[1] * 4 // 5])
    assert yellow.mean() > 0.3
    # Two spots: one at the lower left, one at the upper right.
    assert np.corrcoef(rows, columns)[0, 1] < -0.5


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_scale_does_not_change_the_picture(width: int, scale: float) -> None:
    # A power of two scales without rounding, so the same cells get the same reward.
    factor = 2.0 ** round(np.log2(scale))
    plain, scaled = (draw(report_of(expert(width) * f)) for f in (1.0, factor))
    assert _shares(plain) == _shares(scaled)


def _shares(shown: Landscape) -> list[str]:
    return [p.alt.partition("endorses")[2].partition(";")[0] for p in (shown.before, shown.after)]


@pytest.mark.parametrize(
    "states",
    [
        [[0.0, 0.0, 0.0]],
        [[5e-324]],
        [[1e300, 1e-300]],
        [[1e16, 0.0], [1e16 + 2, 1.0]],
        [[3.0, 1.0, 2.0, 4.0, 5.0]] * 4,
        [[-1e308, 1.0], [1e308, 1.0]],
    ],
)
def test_degenerate_states_are_drawn(states: list[list[float]]) -> None:
    assert draw(report_of(states, found=10)).before.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["$\\frac{", "<b>", "速度", "a\nb", "x" * 300, "\x1b[31m"])
def test_any_name_can_label_an_axis(name: str) -> None:
    assert draw(report_of(expert(2), found=3, names=(name, "y"))).before.png


def test_states_with_a_thousand_features_are_drawn_in_little_memory() -> None:
    wide = report_of(expert(1000, count=3), found=0)
    assert len(draw(wide).before.png) > 1000


def test_many_expert_states_are_thinned_out_and_said_to_be() -> None:
    shown = draw(report_of(expert(2, count=5000), found=0))
    assert "1,667 of 5,000 expert states are drawn." in shown.caption


def test_the_style_of_others_is_neither_used_nor_changed() -> None:
    report = report_of(expert(2))
    plain = draw(report)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        settings = dict(matplotlib.rcParams)
        assert draw(report) == plain
        assert dict(matplotlib.rcParams) == settings


def test_the_rewards_of_a_picture_are_those_of_the_model() -> None:
    report = report_of(expert(1), found=0)
    line = np.linspace(report.before.domain.low[0], report.before.domain.high[0], 401)
    share = float((report.before(line[:, None]) > FLOOR).mean())
    assert f"endorses {100 * share:.0f} %" in draw(report).before.alt


def test_flaws_beyond_the_picture_are_counted_not_drawn() -> None:
    report = report_of(expert(2), found=3, closed=False)
    far = attrs.evolve(report.flaws, states=report.flaws.states + 1e200)
    shown = draw(attrs.evolve(report, flaws=far))
    assert "3 confirmed flaws, 0 of them circled" in shown.before.alt
    assert "0 of 3 flaws are circled before" in shown.caption
