"""The 3-D toy world of the paper's Figure 1: few expert samples on a curve in a cube."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from iirl_engine.api import Context, Source
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.records import Demonstrations, Domain

BOUNDARY = 0.34
CELLS = 20


class Figure1(Source[NoOptions]):
    """20 vertices of a curve in [-1, 1]^3; known good are the grid cells within 0.34 of one."""

    def load(self, context: Context) -> Demonstrations:
        expert = curve()
        cells = grid()
        near = cKDTree(expert).query(cells)[0] <= BOUNDARY
        return check(
            expert,
            feature_names=("x", "y", "z"),
            known_good=cells[near],
            domain=Domain((-1.0,) * 3, (1.0,) * 3),
            origin="figure1",
        )


def curve() -> NDArray[np.float64]:
    """Return the expert samples `[20, 3]`."""
    x = np.linspace(-1.0, 1.0, 20)
    y = np.minimum(x + 0.8 * np.cos(np.pi * x / 2), 1.0)
    z = x - 0.8 * np.sin(np.pi * x / 2)
    return np.stack([x, y, z], axis=1)


def grid() -> NDArray[np.float64]:
    """Return the `[8000, 3]` cells on which the world is counted, x slowest."""
    axis = np.linspace(-1.0, 1.0, CELLS)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
