"""The pictures of an evaluation: how policies are ordered, and what they earn over time.

In both, what the reward says of itself stands beside what is known from elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from iirl_engine.evaluation.policies import Policy
from iirl_engine.evaluation.result import Evaluation, PolicyRow
from iirl_engine.picture import FONT, GREY, INK, Picture, drawable
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

_DPI = 110
# Longest name of a policy that is drawn whole.
_NAME = 24
# Most states of an episode that are drawn.
_STEPS = 2000
_LINE = "#dcdce6"
_COLOURS = {"competent": "#440154", "other": "#21918c", "trivial": "#e3001b"}
_STYLE: dict[str, Any] = {
    "font.family": FONT,
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,
}
# Where a name may stand beside its point, in points: (x, y, horizontal, vertical alignment).
_BESIDE = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
    (5, 9, "left", "bottom"),
    (5, -9, "left", "top"),
    (-5, 9, "right", "bottom"),
    (-5, -9, "right", "top"),
)


def ordering(evaluation: Evaluation) -> Picture | None:
    """Draw each policy's learned return and mean reward over its true return.

    None when no policy has a true return.
    """
    known = [row for row in evaluation.policies if row.true_return is not None]
    if not known:
        return None
    with matplotlib.style.context(["default", _STYLE]):
        figure, canvas = _figure(10.4, 4.6)
        left: Any = figure.add_subplot(1, 2, 1)
        right: Any = figure.add_subplot(1, 2, 2)
        whole = [row for row in known if row.learned_return is not None]
        _cloud(left, canvas, whole, [row.learned_return for row in whole])
        left.set_title("Return of an episode")
        left.set_ylabel("learned return")
        made_up = {row.name: row.reward for row in evaluation.trivial.policies}
        for row in known:
            made_up.pop(row.name, None)
        right.set_ylim(*_around([*made_up.values(), *(row.learned_reward for row in known)]))
        _lines(right, made_up)
        _cloud(right, canvas, known, [row.learned_reward for row in known])
        _legend(figure, right)
        right.set_title("Reward of a state")
        right.set_ylabel("mean learned reward")
        png = _png(canvas)
    told = "; ".join(f"{row.name} {row.true_return:.4g}, {row.learned_reward:.3f}" for row in known)
    alt = "Learned over true return, and mean learned reward over true return. Each policy's"
    return Picture(png, f"{alt} true return and mean learned reward: {told}.")


def trajectories(
    evaluation: Evaluation, model: RewardModel, policies: Sequence[Policy]
) -> Picture | None:
    """Draw the learned and the true reward over the first episode of some policies.

    Drawn are the best, the middle and the worst policy by true return, and up to two trivial
    ones. None when no policy's episodes are known.
    """
    found = {policy.name: policy for policy in policies if policy.episode is not None}
    rows = [row for row in evaluation.policies if row.name in found]
    if not rows:
        return None
    drawn = _chosen(rows)
    with matplotlib.style.context(["default", _STYLE]):
        figure, canvas = _figure(10.4, 0.7 + 1.25 * len(drawn))
        grid: Any = figure.subplots(len(drawn), 2, squeeze=False, sharex="row", sharey="col")
        for axes, (row, role) in zip(grid, drawn.items(), strict=True):
            _episode(axes, found[row.name], model, role, _colour(row))
        grid[0, 0].set_ylim(-0.03, 1.03)
        for axes in grid[-1]:
            axes.set_xlabel("step of the first episode")
        png = _png(canvas)
    names = ", ".join(f"{row.name} ({role})" for row, role in drawn.items())
    return Picture(png, f"Learned reward over time, and true reward beside it, of {names}.")


def _around(values: Sequence[float]) -> tuple[float, float]:
    margin = 0.07 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin


def _lines(axes: Any, rewards: Mapping[str, float]) -> None:
    """Draw a line for each trivial policy that has no true return, and its name beside the axes."""
    low, high = axes.get_ylim()
    free = 0.0
    for name, reward in sorted(rewards.items(), key=lambda item: item[1]):
        axes.axhline(reward, color=_COLOURS["trivial"], linewidth=0.8, linestyle="--")
        free = max(free, (reward - low) / (high - low))
        axes.text(
            1.01,
            free,
            drawable(name, _NAME),
            transform=axes.transAxes,
            va="center",
            fontsize=8,
            color=_COLOURS["trivial"],
        )
        free += 0.045


def _legend(figure: Figure, axes: Any) -> None:
    for role, colour in _COLOURS.items():
        axes.scatter([], [], s=26, color=colour, linewidth=0, label=f"{role} policy")
    figure.legend(loc="outside lower center", ncols=len(_COLOURS), frameon=False)


def _chosen(rows: Sequence[PolicyRow]) -> Mapping[PolicyRow, str]:
    """Return the policies to draw, and what each stands for; `rows` are best first."""
    known = [row for row in rows if row.true_return is not None]
    chosen: dict[PolicyRow, str] = {}
    if known:
        places = {"best": 0, "middle": len(known) // 2, "worst": -1}
        for role, place in places.items():
            chosen.setdefault(known[place], role)
    else:
        chosen = dict.fromkeys(rows[:3], "true return unknown")
    for row in [row for row in rows if row.trivial][:2]:
        chosen[row] = f"{chosen[row]}, trivial" if row in chosen else "trivial"
    return chosen


def _episode(axes: Any, policy: Policy, model: RewardModel, role: str, colour: str) -> None:
    first = np.flatnonzero(policy.episode == 0)
    steps = np.arange(0, len(first), -(-len(first) // _STEPS))
    first = first[steps]
    axes[0].plot(steps, model(policy.states[first]), color=colour, linewidth=0.8)
    axes[0].set_title(f"{drawable(policy.name, _NAME)} ({role}): learned reward")
    axes[1].set_title("true reward")
    if policy.reward is None:
        axes[1].text(0.5, 0.5, "not known", transform=axes[1].transAxes, ha="center", color=GREY)
        axes[1].set_axis_off()
        return
    axes[1].plot(steps, policy.reward[first], color=INK, linewidth=0.8)
    axes[1].yaxis.set_major_locator(MaxNLocator(4))


def _cloud(axes: Any, canvas: Any, rows: Sequence[PolicyRow], heights: Sequence[Any]) -> None:
    """Draw one point per policy and its name where it hides as little as possible."""
    axes.set_xlabel("true return")
    axes.margins(0.09)
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    places = [(row.true_return, height) for row, height in zip(rows, heights, strict=True)]
    if not rows:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", color=GREY)
        return
    for row, place in zip(rows, places, strict=True):
        axes.scatter(*place, s=26, color=_colour(row), linewidth=0, zorder=3)
    canvas.draw()
    taken = [_box(axes.transData.transform(place), 4) for place in places]
    for row, place in zip(rows, places, strict=True):
        names = [
            axes.annotate(
                drawable(row.name, _NAME),
                place,
                xytext=(x, y),
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=8,
                color=_colour(row),
            )
            for x, y, across, up in _BESIDE
        ]
        boxes = [name.get_window_extent(canvas.get_renderer()) for name in names]
        overlaps = [_hidden(box, taken, axes.get_window_extent()) for box in boxes]
        best = int(np.argmin(overlaps))
        taken.append(boxes[best])
        for name in names[:best] + names[best + 1 :]:
            name.remove()


def _box(centre: Any, half: float) -> Any:
    return Bbox([centre - half, centre + half])


def _hidden(box: Any, taken: Sequence[Any], inside: Any) -> float:
    """Return how much of a box others take, or lies outside, in square pixels."""
    return sum(_overlap(box, other) for other in taken) + float(
        box.width * box.height - _overlap(box, inside)
    )


def _overlap(one: Any, other: Any) -> float:
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


def _colour(row: PolicyRow) -> str:
    return _COLOURS["competent" if row.competent else "trivial" if row.trivial else "other"]


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    return figure, FigureCanvasAgg(figure)


def _png(canvas: Any) -> bytes:
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()
