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


@attrs.frozen(kw_only=True)
class MinariOptions:
    """Options of source `minari`."""

    dataset: str = option(
        help="id of a dataset that is on this machine, such as mujoco/halfcheetah/expert-v0, or "
        "the path of its folder; a relative path starts where iirl is called"
    )
    observation: str | None = option(
        None, help="the part of the observation that is the state, where it has named parts"
    )
    states: int | None = option(
        None, ge=1, help="states at most, from the first episode on; all if left out"
    )


@attrs.frozen(kw_only=True)
class IcuSepsisOptions:
    """Options of source `icu-sepsis`."""

    patients: int = option(1000, ge=1, le=10_000, help="patients, of about 9 states each")
    negatives: bool = option(
        False, help="take the states of patients who died as negatives, not as expert states"
    )
