"""How a picture of a reward is drawn: a curve, a map or a cloud of cells, with a legend."""

from __future__ import annotations

import io
import math
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from iirl_engine.builtin.scene import Panel, Scene
from iirl_engine.picture import FONT, GREY, INK

Array = NDArray[np.float64]

_SIZE, _DPI = (5.4, 4.7), 110
# A cloud mixes translucent colours; with 32 levels per channel it looks alike and packs better.
_LEVELS = np.round(np.round(np.arange(256) * 31 / 255) * 255 / 31).astype(np.uint8)
_COLOURS = colormaps["viridis_r"]
_NO_METADATA: dict[str, Any] = {"Software": None}
_RED = "#e3001b"
_LIMIT: dict[str, Any] = {"colors": GREY, "linewidths": 1.0, "linestyles": "dashed"}
_STYLE = {
    "font.family": FONT,
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,
}


def png(scene: Scene, panel: Panel, subtitle: str) -> bytes:
    """Return the bytes of a picture; the same scene, panel and subtitle give the same."""
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        {1: _curve, 2: _map, 3: _cloud}[len(scene.axes)](figure, scene, panel)
        figure.text(0.03, 0.955, panel.title, fontsize=13, fontweight="bold", color=INK)
        figure.text(0.03, 0.908, subtitle, fontsize=10, color=GREY)
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


def _curve(figure: Figure, scene: Scene, panel: Panel) -> None:
    axes: Any = figure.add_axes((0.115, 0.165, 0.72, 0.7))
    at = scene.cells[:, 0]
    axes.vlines(at, 0, panel.reward, colors=_COLOURS(panel.reward), linewidth=1.6)
    axes.plot(at, panel.reward, color=INK, linewidth=1.2)
    axes.axhline(scene.floor, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    shown = scene.shown
    axes.plot(shown, np.full(len(shown), -0.035), ".", color=INK, markersize=4)
    axes.scatter(panel.circles[:, 0], panel.heights, **_circle(26))
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.07, 1.03)
    axes.set_ylabel("reward")
    _label(axes, scene)
    _colour_bar(figure)


def _map(figure: Figure, scene: Scene, panel: Panel) -> None:
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
        axes.contour(along, along, endorsed, levels=[scene.floor], colors=INK, linewidths=0.7)
    shown = scene.shown
    # All halos first, so that a dense trace keeps one pale outline and stays dark.
    axes.scatter(*shown.T, s=_dot(shown) + 7, color="white", linewidth=0)
    axes.scatter(*shown.T, s=_dot(shown), color=INK, linewidth=0)
    axes.scatter(panel.circles[:, 0], panel.circles[:, 1], **_circle(30))
    axes.set_xlim(-half, 1 + half)
    axes.set_ylim(-half, 1 + half)
    _label(axes, scene)
    _colour_bar(figure)


def _cloud(figure: Figure, scene: Scene, panel: Panel) -> None:
    axes: Any = figure.add_axes((-0.05, 0.05, 0.94, 0.87), projection="3d", computed_zorder=False)
    axes.view_init(elev=24, azim=-62)
    drawn = panel.reward > scene.floor
    colours = _COLOURS(panel.reward[drawn])
    colours[:, 3] = 0.10 + 0.28 * panel.reward[drawn] ** 2
    axes.scatter(
        *scene.cells[drawn].T, s=26, c=colours, marker="o", linewidth=0, depthshade=False, zorder=1
    )
    shown = scene.shown
    axes.scatter(*shown.T, s=2 * _dot(shown), color=INK, linewidth=0, depthshade=False, zorder=3)
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


def _label(axes: Any, scene: Scene) -> None:
    for axis, letter in zip(scene.axes, "xyz", strict=False):
        positions, labels = axis.ticks()
        getattr(axes, f"set_{letter}ticks")(positions, labels)
        getattr(axes, f"set_{letter}label")(axis.label)


def _colour_bar(figure: Figure) -> None:
    axes: Any = figure.add_axes((0.885, 0.28, 0.024, 0.46))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLOURS), cax=axes, ticks=[0, 0.25, 0.5, 0.75, 1]
    )
    axes.set_title("reward", fontsize=10, color=INK, pad=9)
    bar.outline.set_linewidth(0.5)
    axes.tick_params(length=2.5)


def _legend(figure: Figure, scene: Scene, panel: Panel) -> None:
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.065))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.scatter([0.045], [0.5], s=16, color=INK, linewidth=0)
    axes.text(0.065, 0.5, "expert state", va="center", fontsize=9, color=GREY)
    axes.scatter([0.27], [0.5], **_circle(30))
    axes.text(0.29, 0.5, _circled(panel), va="center", fontsize=9, color=GREY)
    if scene.bounded:
        axes.hlines([0.5], [0.62], [0.68], **_LIMIT)
        axes.text(0.69, 0.5, "limit of a norm", va="center", fontsize=9, color=GREY)


def _circled(panel: Panel) -> str:
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


def _dot(points: Array) -> float:
    return 16.0 if len(points) <= 100 else 9.0 if len(points) <= 500 else 5.0
