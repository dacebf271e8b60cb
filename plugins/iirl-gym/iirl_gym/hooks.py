"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl
from iirl_gym.options import PointMazeOptions

IIRL_API = 1


@hookimpl
def iirl_sources() -> Iterator[Offer]:
    """Demonstrations driven in simulated worlds."""
    yield Offer(
        "pointmaze",
        "iirl_gym.pointmaze:PointMaze",
        PointMazeOptions,
        "a ball driven through a MuJoCo maze; brings its walls as norms",
    )
