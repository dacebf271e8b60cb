"""What gates and vetoes judge a candidate by, and what a gate says of it.

This module imports no array library, so that hook modules stay light.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from iirl_engine.corrections.base import Correction
    from iirl_engine.records import Flaws
    from iirl_engine.reward import RewardModel

    Array = NDArray[np.float64]


def _frozen_mapping(given: Mapping[str, float]) -> Mapping[str, float]:
    return types.MappingProxyType(dict(given))


@attrs.frozen(eq=False)
class Candidate:
    """A repaired reward that asks to be released."""

    round: int
    corrections: tuple[Correction, ...]
    model: RewardModel


@attrs.frozen(eq=False)
class Evidence:
    """What gates and vetoes judge a candidate by.

    Parameters
    ----------
    current
        The newest released reward.
    flaws
        All confirmed flaws of the run.
    was_open
        `[m]` whether `current` still endorses each of them.
    known_good
        `[k, d]` states whose reward must be kept.
    original
        `[k]` their reward in release 0.
    floor
        Reward above this is an endorsement.
    data
        Fingerprint of the demonstrations.
    """

    current: RewardModel
    flaws: Flaws
    was_open: NDArray[np.bool_]
    known_good: Array
    original: Array
    floor: float
    data: str


@attrs.frozen
class Judgement:
    """What one gate said of one candidate, with the numbers it went by."""

    gate: str
    ok: bool
    numbers: Mapping[str, float] = attrs.field(converter=_frozen_mapping)
    reason: str = ""
