"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1
_OPTIONS = "iirl_gym.options"


@hookimpl
def iirl_sources() -> Iterator[Offer]:
    """Demonstrations driven in simulated worlds, or recorded there by others."""
    yield Offer(
        "pointmaze",
        "iirl_gym.pointmaze:PointMaze",
        f"{_OPTIONS}:PointMazeOptions",
        "a ball driven through a MuJoCo maze; brings its walls as norms",
    )
    yield Offer(
        "minari",
        "iirl_gym.minari_dataset:Minari",
        f"{_OPTIONS}:MinariOptions",
        "observations of a Minari dataset on this machine",
    )
    yield Offer(
        "icu-sepsis",
        "iirl_gym.sepsis_source:IcuSepsis",
        f"{_OPTIONS}:IcuSepsisOptions",
        "clinicians who treat sepsis in the ICU-Sepsis world",
    )


@hookimpl
def iirl_auditors() -> Iterator[Offer]:
    """A learner that shows what a reward makes of it."""
    yield Offer(
        "exploit",
        "iirl_gym.exploit:Exploit",
        "iirl_gym.options:ExploitOptions",
        "adversarial: trains a small policy on the reward and looks at what it does",
    )


@hookimpl
def iirl_commands() -> Iterator[Offer]:
    """Policies to evaluate rewards with."""
    yield Offer(
        "icu-sepsis",
        "iirl_gym.sepsis_policies:command",
        summary="write policies of the ICU-Sepsis world",
    )
