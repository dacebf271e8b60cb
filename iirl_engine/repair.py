"""What a refiner is asked to mend, and what it proposes.

This module imports no array library, so that hook modules stay light.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from iirl_engine.corrections.base import Correction
    from iirl_engine.records import Flaws
    from iirl_engine.reward import RewardModel

    Array = NDArray[np.float64]


def _corrections(given: Iterable[Correction]) -> tuple[Correction, ...]:
    return tuple(given)


def _names(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


def _frozen_mapping(given: Mapping[int, str]) -> Mapping[int, str]:
    return types.MappingProxyType(dict(given))


@attrs.frozen(eq=False)
class Repair:
    """What a refiner is asked to mend.

    Parameters
    ----------
    model
        The reward as it stands, with every correction so far.
    flaws
        Open, confirmed flaws, most urgent first.
    closed
        `[c, d]` flaws that corrections have closed, those of refiners asked before in this round
        too, and that must stay closed.
    known_good
        `[k, d]` states whose reward must be kept.
    original
        `[k]` their reward in release 0; losses are counted from here, over all releases.
    floor
        Reward above this is an endorsement.
    """

    model: RewardModel
    flaws: Flaws
    closed: Array
    known_good: Array
    original: Array
    floor: float


@attrs.frozen(eq=False)
class Proposal:
    """What a refiner proposes, and what it expects of it.

    What it does not say the engine estimates; afterwards both are compared with what came of it.

    Parameters
    ----------
    corrections
        To add to the reward.
    closes
        How many of the flaws it was asked about they are expected to close.
    worst_loss, mean_loss
        What a known-good state is then expected to have lost since release 0.
    left
        Row of `Repair.flaws` -> reason, for each flaw that it knows it cannot close.
    replaces
        Ids of corrections of the reward that these stand in for; they are taken away.
    """

    corrections: tuple[Correction, ...] = attrs.field(converter=_corrections, default=())
    closes: int | None = None
    worst_loss: float | None = None
    mean_loss: float | None = None
    left: Mapping[int, str] = attrs.field(converter=_frozen_mapping, factory=dict)
    replaces: tuple[str, ...] = attrs.field(converter=_names, default=())
