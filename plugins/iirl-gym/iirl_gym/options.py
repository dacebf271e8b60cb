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


@attrs.frozen(kw_only=True)
class ExploitOptions:
    """Options of auditor `exploit`."""

    environment: str | None = option(
        None,
        help="id of a gymnasium environment whose observations are states, such as "
        "HalfCheetah-v5; without one the learner walks through the domain, from demonstrations",
    )
    budget: int = option(
        50_000, ge=1, help="reward queries per round; each step in the environment costs one"
    )
    horizon: int = option(200, ge=1, help="steps of an episode at most")
    directions: int = option(
        8, ge=1, help="directions that each step of the search tries, there and back"
    )
    noise: float = option(0.1, gt=0.0, help="how far it tries, in weights of the policy")
    step: float = option(0.1, gt=0.0, help="how far it goes")
    share: float = option(
        0.9, gt=0.0, help="share of the demonstrations' reward that makes a learner a rival"
    )
    still: float = option(
        0.25, ge=0.0, help="spread below which it hardly moves, in that of the demonstrations"
    )
    outside: float = option(
        0.5, ge=0.0, le=1.0, help="share of its states outside the support from which on it left"
    )
