"""The pictures of a report: where the reward is high, before and after the flywheel.

In the manner of Figure 1 of the paper: yellow is a low reward and purple a high one, dark dots
are expert states, hollow red circles are flaws. One feature is drawn as a curve, two as a map with
the limits of the norms, three as a cloud of cells. Of wider states two features are drawn, and the
features that are not drawn are taken from the expert state that is nearest in those that are.

Each axis is mapped to [0, 1] before anything is drawn, so that features of any scale, from 1e-300
to 1e300, look alike.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import Any

import attrs
import matplotlib.style
import numpy as np
import torch
from matplotlib import colormaps, font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from iirl_engine.errors import UsageError
from iirl_engine.records import Demonstrations, Report
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

CIRCLES = 120
_DOTS = 2000
# Cells along each axis, by the number of features drawn.
_CELLS = {1: 401, 2: 160, 3: 20}
# Numbers in all cells together, so that wide states are drawn with fewer of them.
_MOST_NUMBERS = 2**22
_SIZE, _DPI = (5.4, 4.7), 110
# A cloud mixes translucent colours; with 32 levels per channel it looks alike and packs better.
_LEVELS = np.round(np.round(np.arange(256) * 31 / 255) * 255 / 31).astype(np.uint8)
_COLOURS = colormaps["viridis_r"]
_NO_METADATA: dict[str, Any] = {"Software": None}
_RED, _INK, _GREY = "#e3001b", "#16161d", "#5a5a66"
_FONT = "DejaVu Sans"
_LIMIT: dict[str, Any] = {"colors": _GREY, "linewidths": 1.0, "linestyles": "dashed"}
_STYLE = {
    "font.family": _FONT,
    "font.size": 10,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "text.parse_math": False,
}


@attrs.frozen
class Picture:
    """A PNG image, and what it shows for those who do not see it."""

    png: bytes
    alt: str


@attrs.frozen
class Landscape:
    """The reward of release 0 and of the newest release, drawn alike.

    Parameters
    ----------
    before
        Release 0 with all confirmed flaws.
    after
        The newest release with the flaws that it still endorses.
    caption
        How to read both.
    """

    before: Picture
    after: Picture
    caption: str


def draw(report: Report, features: Sequence[str] | None = None) -> Landscape:
    """Draw a report's rewards; the same report gives the same bytes.

    Parameters
    ----------
    report
        What to draw.
    features
        One to three names of features to draw. By default all of them when there are at most
        three, else the two whose expert states span most of the domain, earlier columns first
        where several span alike (to a hundredth).

    Raises
    ------
    UsageError
        When `features` are not one to three different names of features.
    """
    data = report.after.demonstrations
    scene = _scene(report.after, _columns(report, features), report.floor)
    flaws = report.flaws.states
    still_open = flaws[report.still_open]
    before = _panel(scene, report.before, "Release 0, as learned", flaws, "confirmed flaw")
    name = report.outcome.release.name
    newest = f"Release {int(name)}" if name.isdigit() else "Newest release"
    after = _panel(scene, report.after, newest, still_open, "flaw", " still open")
    return Landscape(
        Picture(_png(scene, before), f"Before: {_alt(scene, before, data)}"),
        Picture(_png(scene, after), f"After: {_alt(scene, after, data)}"),
        _caption(scene, before, after, data),
    )


@attrs.frozen
class _Axis:
    """One drawn feature: its column, its name, and the range that becomes [0, 1]."""

    column: int
    name: str
    low: float
    high: float

    def place(self, values: Array) -> Array:
        """Return values of the feature as positions; nothing overflows on the way."""
        width = self.high / 2 - self.low / 2
        with np.errstate(over="ignore"):
            return np.asarray((values / 2 - self.low / 2) / (width if width > 0 else 1.0))

    def value(self, positions: Array) -> Array:
        """Return the feature's values at positions in [0, 1]."""
        return np.asarray(self.low * (1 - positions) + self.high * positions)

    @property
    def unit(self) -> float:
        """The power of ten that tick labels are counted in; 1 for handy numbers."""
        size = max(abs(self.low), abs(self.high))
        power = math.floor(math.log10(size)) if size > 0 else 0
        return 1.0 if -3 <= power <= 4 else float(f"1e{max(power, -300)}")

    @property
    def label(self) -> str:
        """The feature's name with its unit, in glyphs that the font has."""
        name = _drawable(self.name)
        return name if self.unit == 1.0 else f"{name} [{self.unit:.0e}]"

    def ticks(self) -> tuple[list[float], list[str]]:
        """Return positions and labels of round numbers."""
        low, high = self.low / self.unit, self.high / self.unit
        if not high - low > 1e-6 * max(abs(low), abs(high)):
            return [0.0, 1.0], [f"{low:.6g}", f"+{(self.high - self.low) / self.unit:.2g}"]
        found = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        inside = [float(v) for v in found if low - 1e-9 <= v <= high + 1e-9]
        return [(v - low) / (high - low) for v in inside], [f"{v + 0.0:g}" for v in inside]


@attrs.frozen(eq=False)
class _Scene:
    """What both pictures share: the axes, the cells, and the expert states, as positions."""

    axes: tuple[_Axis, ...]
    cells: Array
    states: Array
    expert: Array
    violation: Array
    floor: float
    width: int

    @property
    def bounded(self) -> bool:
        """Whether a map shows the limit of a norm."""
        forbidden = self.violation > 0
        return len(self.axes) == 2 and bool(forbidden.any() and not forbidden.all())

    @property
    def names(self) -> str:
        names = [axis.name for axis in self.axes]
        return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]

    @property
    def projected(self) -> bool:
        return self.width > len(self.axes)


@attrs.frozen(eq=False)
class _Panel:
    """One picture's own part: the reward of each cell, and the flaws it circles."""

    title: str
    counts: str
    reward: Array
    endorsed: float
    flaws: int
    circles: Array
    heights: Array


def _columns(report: Report, features: Sequence[str] | None) -> tuple[int, ...]:
    data = report.after.demonstrations
    names = data.feature_names
    if features is None:
        return tuple(range(len(names))) if len(names) <= 3 else _widest(report.after)
    unknown = [name for name in features if name not in names]
    if unknown or not 1 <= len(features) <= 3 or len(set(features)) < len(features):
        raise UsageError(
            "features to draw must be one to three different names of features",
            where="report html",
            got=list(features),
            known=names,
        )
    return tuple(names.index(name) for name in features)


def _widest(model: RewardModel) -> tuple[int, ...]:
    states = model.demonstrations.states
    low, high = np.array(model.domain.low) / 2, np.array(model.domain.high) / 2
    span = states.max(axis=0) / 2 - states.min(axis=0) / 2
    with np.errstate(over="ignore"):
        share = span / np.where(high > low, high - low, 1.0)
    first = np.argsort(-np.round(np.minimum(share, 1.0), 2), kind="stable")[:2]
    return tuple(sorted(int(i) for i in first))


def _scene(model: RewardModel, columns: Sequence[int], floor: float) -> _Scene:
    data = model.demonstrations
    axes = tuple(
        _Axis(
            column,
            data.feature_names[column],
            min(model.domain.low[column], float(data.states[:, column].min())),
            max(model.domain.high[column], float(data.states[:, column].max())),
        )
        for column in columns
    )
    side = min(_CELLS[len(axes)], int((_MOST_NUMBERS / model.width) ** (1 / len(axes))))
    line = np.linspace(0.0, 1.0, max(2, side))
    cells = np.stack(np.meshgrid(*[line] * len(axes), indexing="ij"), axis=-1)
    cells = cells.reshape(-1, len(axes))
    expert = _placed(axes, data.states)
    nearest = cKDTree(expert).query(cells)[1] if model.width > len(axes) else [0]
    states = np.resize(data.states[nearest], (len(cells), model.width))
    for index, axis in enumerate(axes):
        states[:, axis.column] = axis.value(cells[:, index])
    with torch.no_grad():
        violation = model.violation(torch.from_numpy(states)).numpy()
    return _Scene(axes, cells, states, expert, violation, floor, model.width)


def _placed(axes: Sequence[_Axis], states: Array) -> Array:
    return np.stack([axis.place(states[:, axis.column]) for axis in axes], axis=1)


def _panel(
    scene: _Scene, model: RewardModel, title: str, flaws: Array, noun: str, state: str = ""
) -> _Panel:
    reward = np.asarray(model(scene.states), dtype=np.float64)
    at = _placed(scene.axes, flaws)
    inside = np.flatnonzero(((at > -1e-9) & (at < 1 + 1e-9)).all(axis=1))
    rows = inside[_spread(at[inside], CIRCLES)]
    return _Panel(
        title=title,
        counts=f"{len(flaws):,} {noun}{'' if len(flaws) == 1 else 's'}{state}",
        reward=reward,
        endorsed=float((reward > scene.floor).mean()),
        flaws=len(flaws),
        circles=at[rows],
        heights=model(flaws[rows]) if len(rows) else np.empty(0),
    )


def _spread(points: Array, most: int) -> NDArray[np.int64]:
    """Return rows of at most `most` points, each as far as can be from those before it."""
    if len(points) <= most:
        return np.arange(len(points))
    chosen = [0]
    apart = np.square(points - points[0]).sum(axis=1)
    while len(chosen) < most:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.square(points - points[chosen[-1]]).sum(axis=1))
    return np.array(chosen)


def _png(scene: _Scene, panel: _Panel) -> bytes:
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        {1: _curve, 2: _map, 3: _cloud}[len(scene.axes)](figure, scene, panel)
        figure.text(0.03, 0.955, panel.title, fontsize=13, fontweight="bold", color=_INK)
        figure.text(0.03, 0.908, _subtitle(scene, panel), fontsize=10, color=_GREY)
        _legend(figure, scene, panel)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    if len(scene.axes) == 3:
        pixels = _LEVELS[pixels]
    buffer = io.BytesIO()
    imsave(
        buffer,
        pixels,
        format="png",
        metadata=_NO_METADATA,
        pil_kwargs={"optimize": True},
    )
    return buffer.getvalue()


def _curve(figure: Figure, scene: _Scene, panel: _Panel) -> None:
    axes: Any = figure.add_axes((0.115, 0.165, 0.72, 0.7))
    at = scene.cells[:, 0]
    axes.vlines(at, 0, panel.reward, colors=_COLOURS(panel.reward), linewidth=1.6)
    axes.plot(at, panel.reward, color=_INK, linewidth=1.2)
    axes.axhline(scene.floor, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    shown = _some(scene.expert)
    axes.plot(shown, np.full(len(shown), -0.035), ".", color=_INK, markersize=4)
    axes.scatter(panel.circles[:, 0], panel.heights, **_circle(26))
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.07, 1.03)
    axes.set_ylabel("reward")
    _label(axes, scene)
    _colour_bar(figure)


def _map(figure: Figure, scene: _Scene, panel: _Panel) -> None:
    axes: Any = figure.add_axes((0.115, 0.165, 0.72, 0.7))
    cells = math.isqrt(len(scene.cells))
    half = 0.5 / (cells - 1)
    axes.imshow(
        panel.reward.reshape(cells, cells).T,
        origin="lower",
        extent=(-half, 1 + half, -half, 1 + half),
        cmap=_COLOURS,
        norm=Normalize(0, 1),
        aspect="auto",
        interpolation="nearest",
    )
    along = np.linspace(0, 1, cells)
    if scene.bounded:
        forbidden = (scene.violation > 0).reshape(cells, cells).T
        limits = axes.contour(along, along, forbidden, levels=[0.5], **_LIMIT)
        limits.set_path_effects([withStroke(linewidth=2.2, foreground="#ffffffb0")])
    if panel.reward.min() <= scene.floor < panel.reward.max():
        endorsed = panel.reward.reshape(cells, cells).T
        axes.contour(along, along, endorsed, levels=[scene.floor], colors=_INK, linewidths=0.7)
    shown = _some(scene.expert)
    # All halos first, so that a dense trace keeps one pale outline and stays dark.
    axes.scatter(*shown.T, s=_dot(shown) + 7, color="white", linewidth=0)
    axes.scatter(*shown.T, s=_dot(shown), color=_INK, linewidth=0)
    axes.scatter(panel.circles[:, 0], panel.circles[:, 1], **_circle(30))
    axes.set_xlim(-half, 1 + half)
    axes.set_ylim(-half, 1 + half)
    _label(axes, scene)
    _colour_bar(figure)


def _cloud(figure: Figure, scene: _Scene, panel: _Panel) -> None:
    axes: Any = figure.add_axes((-0.05, 0.05, 0.94, 0.87), projection="3d", computed_zorder=False)
    axes.view_init(elev=24, azim=-62)
    drawn = panel.reward > scene.floor
    colours = _COLOURS(panel.reward[drawn])
    colours[:, 3] = 0.10 + 0.28 * panel.reward[drawn] ** 2
    axes.scatter(
        *scene.cells[drawn].T, s=26, c=colours, marker="o", linewidth=0, depthshade=False, zorder=1
    )
    shown = _some(scene.expert)
    axes.scatter(*shown.T, s=2 * _dot(shown), color=_INK, linewidth=0, depthshade=False, zorder=3)
    axes.scatter(*panel.circles.T, depthshade=False, zorder=2, **_circle(30))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_zlim(0, 1)
    _label(axes, scene)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set_facecolor("#f7f7f9")
        axis.pane.set_edgecolor("#d5d5dd")
        axis._axinfo["grid"].update(color="#e3e3ea", linewidth=0.6)
    _colour_bar(figure)


def _label(axes: Any, scene: _Scene) -> None:
    for axis, letter in zip(scene.axes, "xyz", strict=False):
        positions, labels = axis.ticks()
        getattr(axes, f"set_{letter}ticks")(positions, labels)
        getattr(axes, f"set_{letter}label")(axis.label)


def _colour_bar(figure: Figure) -> None:
    axes: Any = figure.add_axes((0.885, 0.28, 0.024, 0.46))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLOURS), cax=axes, ticks=[0, 0.25, 0.5, 0.75, 1]
    )
    axes.set_title("reward", fontsize=10, color=_INK, pad=9)
    bar.outline.set_linewidth(0.5)
    axes.tick_params(length=2.5)


def _legend(figure: Figure, scene: _Scene, panel: _Panel) -> None:
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.065))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.scatter([0.045], [0.5], s=16, color=_INK, linewidth=0)
    axes.text(0.065, 0.5, "expert state", va="center", fontsize=9, color=_GREY)
    axes.scatter([0.27], [0.5], **_circle(30))
    axes.text(0.29, 0.5, _circled(panel), va="center", fontsize=9, color=_GREY)
    if scene.bounded:
        axes.hlines([0.5], [0.62], [0.68], **_LIMIT)
        axes.text(0.69, 0.5, "limit of a norm", va="center", fontsize=9, color=_GREY)


def _circled(panel: _Panel) -> str:
    if len(panel.circles) == panel.flaws:
        return "flaw"
    return f"flaw ({len(panel.circles):,} of {panel.flaws:,} drawn)"


def _circle(size: float) -> dict[str, Any]:
    return {
        "s": size,
        "facecolors": "none",
        "edgecolors": _RED,
        "linewidths": 1.1,
        "path_effects": [withStroke(linewidth=2.3, foreground="white")],
    }


def _some(points: Array) -> Array:
    return points[:: math.ceil(len(points) / _DOTS)]


def _dot(points: Array) -> float:
    return 16.0 if len(points) <= 100 else 9.0 if len(points) <= 500 else 5.0


def _subtitle(scene: _Scene, panel: _Panel) -> str:
    return f"{panel.counts} · {_share(panel.endorsed)} of this space endorsed"


def _share(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _alt(scene: _Scene, panel: _Panel, data: Demonstrations) -> str:
    kind = {1: "curve", 2: "map", 3: "cloud of cells"}[len(scene.axes)]
    text = (
        f"{panel.title}. A {kind} of the reward over {scene.names}, yellow where it is low and "
        f"purple where it is high, with {len(data.states):,} expert states as dark dots. The "
        f"reward endorses {_share(panel.endorsed)} of the space shown; {panel.counts}"
    )
    if not panel.flaws:
        return text + "."
    outside = "" if len(panel.circles) == panel.flaws else f", {len(panel.circles):,} of them"
    return f"{text}{outside} circled in red."


def _caption(scene: _Scene, before: _Panel, after: _Panel, data: Demonstrations) -> str:
    parts = [f"Reward over {scene.names}, from yellow (0) to purple (1)."]
    if len(scene.axes) == 3:
        parts.append(f"Only cells with a reward above the floor {scene.floor:g} are drawn.")
    if len(scene.axes) == 2:
        parts.append(f"The thin line is the floor {scene.floor:g}: inside it states are endorsed.")
    if scene.bounded:
        parts.append("The dashed line is where the norms begin to forbid.")
    if len(scene.axes) == 1:
        parts.append(f"The dashed line is the floor {scene.floor:g}.")
    if scene.projected:
        parts.append(
            "The features that are not drawn are those of the expert state nearest in those "
            "that are, so the picture shows the reward of plausible states; a flaw's own other "
            "features may differ."
        )
    shown = len(_some(scene.expert))
    if shown < len(data.states):
        parts.append(f"{shown:,} of {len(data.states):,} expert states are drawn.")
    for panel, when in ((before, "before"), (after, "after")):
        if len(panel.circles) < panel.flaws:
            parts.append(
                f"{len(panel.circles):,} of {panel.flaws:,} flaws are circled {when}, spread as "
                "evenly as they lie."
            )
    return " ".join(parts)


def _drawable(text: str) -> str:
    """Return text with only the glyphs the font has, cut to a length that fits an axis."""
    known = _glyphs()
    shown = "".join(c if c.isprintable() and ord(c) in known else "?" for c in text)
    return shown if len(shown) <= 32 else shown[:31] + "…"


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(_FONT)).get_charmap())
