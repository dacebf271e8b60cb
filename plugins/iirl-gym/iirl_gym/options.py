"""Options of the sources; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class PointMazeOptions:
    """Options of source `pointmaze`."""

    maze: Literal["umaze", "medium", "large"] = option(
        "medium", help="which maze of gymnasium-robotics: PointMaze_UMaze, _Medium or _Large"
    )
    states: int = option(20_000, ge=1, help="demonstration states, 20 for each second of driving")
    noise: float = option(
        0.1,
        ge=0.0,
        le=0.2,
        help="standard deviation of the noise on the controller's action, which lies in [-1, 1]; "
        "much above 0.2 the ball is driven against the walls",
    )
