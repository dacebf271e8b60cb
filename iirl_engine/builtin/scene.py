"""What a picture of a reward shows: axes, cells with their reward, expert states and flaws.

Each axis is mapped to [0, 1] before anything is drawn, so that features of any scale, from 1e-300
to 1e300, look alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from iirl_engine.errors import UsageError
from iirl_engine.picture import drawable
from iirl_engine.records import Report
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

CIRCLES = 120
# Expert states that are drawn at most, about.
_DOTS = 2000
# Cells along each axis, by the number of features drawn.
_CELLS = {1: 401, 2: 160, 3: 20}
# Numbers in all cells together, so that wide states are drawn with fewer of them.
_MOST_NUMBERS = 2**22


@attrs.frozen
class Axis:
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
        name = drawable(self.name, 32)
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
class Scene:
    """What both pictures share: the axes, the cells, and the expert states, as positions."""

    axes: tuple[Axis, ...]
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
    def shown(self) -> Array:
        """Expert states that are drawn: all, or as many evenly."""
        return self.expert[:: math.ceil(len(self.expert) / _DOTS)]

    @property
    def names(self) -> str:
        names = [axis.name for axis in self.axes]
        return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]

    @property
    def projected(self) -> bool:
        return self.width > len(self.axes)


@attrs.frozen(eq=False)
class Panel:
    """One picture's own part: the reward of each cell, and the flaws it circles."""

    title: str
    counts: str
    reward: Array
    endorsed: float
    flaws: int
    circles: Array
    heights: Array


def columns_of(report: Report, features: Sequence[str] | None) -> tuple[int, ...]:
    """Return the columns to draw: those of the named features, or else the widest.

    Raises
    ------
    UsageError
        When `features` are not one to three different names of features.
    """
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


def scene_of(model: RewardModel, columns: Sequence[int], floor: float) -> Scene:
    """Return what all pictures of these columns `[1..3]` share."""
    data = model.demonstrations
    axes = tuple(
        Axis(
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
    return Scene(axes, cells, states, expert, violation, floor, model.width)


def _placed(axes: Sequence[Axis], states: Array) -> Array:
    return np.stack([axis.place(states[:, axis.column]) for axis in axes], axis=1)


def panel_of(
    scene: Scene, model: RewardModel, title: str, flaws: Array, noun: str, state: str = ""
) -> Panel:
    """Return what a picture of a model's reward, with flaws `[m, d]` circled, adds to a scene."""
    reward = np.asarray(model(scene.states), dtype=np.float64)
    at = _placed(scene.axes, flaws)
    inside = np.flatnonzero(((at > -1e-9) & (at < 1 + 1e-9)).all(axis=1))
    rows = inside[_spread(at[inside], CIRCLES)]
    return Panel(
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
