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
    first
        Release 0; None where there is none but `current`.
    held_out
        `[k]` whether each known-good state is a demonstration that the encoder has not seen.
    asked
        `[m]` the open flaws that the candidate is to close. Those are left out that an earlier
        candidate closed and that were given up, because a gate refused the corrections in question.
    withheld
        `[m]` the open flaws that no refiner was shown, though others of their region.
    """

    current: RewardModel
    flaws: Flaws
    was_open: NDArray[np.bool_]
    known_good: Array
    original: Array
    floor: float
    data: str
    first: RewardModel | None = None
    held_out: NDArray[np.bool_] | None = None
    asked: NDArray[np.bool_] | None = None
    withheld: NDArray[np.bool_] | None = None

    @property
    def before(self) -> RewardModel:
        """Release 0: what losses are counted from."""
        return self.current if self.first is None else self.first


@attrs.frozen
class Judgement:
    """What one gate said of one candidate, with the numbers it went by.

    Parameters
    ----------
    gate
        Its id.
    ok
        Whether the candidate may be released.
    numbers
        Name -> finite number.
    reason
        Of a refusal.
    blames
        Of a refusal, which of the candidate's corrections are at fault: ids, or `id[3]` for the
        fourth kernel of one. The engine tries the candidate without them first. None, the default,
        has it find out by halves; an empty tuple says that no smaller candidate would pass.
    """

    gate: str
    ok: bool
    numbers: Mapping[str, float] = attrs.field(converter=_frozen_mapping)
    reason: str = ""
    blames: tuple[str, ...] | None = attrs.field(default=None, eq=False)
