"""What the repair of a round came to, as records.

This module imports no array library, so that hook modules and the command line stay light.
"""

from __future__ import annotations

import attrs

# A prediction is wrong that misses by more than this share of the flaws, or this much reward.
_WRONG = 0.05


@attrs.frozen
class Prediction:
    """What a refiner's proposal was expected to do, and what it did.

    Parameters
    ----------
    refiner
        Id of its step.
    by
        Who expected it: `refiner`, or `engine` where the refiner said nothing.
    asked
        Open flaws that it was asked about.
    withheld
        Open flaws of the same regions that no refiner was shown.
    expected_closes, closed
        How many of the flaws it was asked about were expected to close, and did.
    closed_withheld
        How many of the withheld ones closed with them.
    kept
        How many of the flaws it was asked about the round's release closes.
    expected_worst_loss, worst_loss, expected_mean_loss, mean_loss
        What known-good states were expected to have lost since release 0, and had lost.
    """

    refiner: str
    by: str
    asked: int
    withheld: int
    expected_closes: int
    closed: int
    closed_withheld: int
    kept: int
    expected_worst_loss: float
    worst_loss: float
    expected_mean_loss: float
    mean_loss: float

    @property
    def wrong(self) -> bool:
        """Whether it misses by more than 5 % of the flaws, or a loss of 0.05."""
        return (
            abs(self.expected_closes - self.closed) > _WRONG * self.asked
            or self.worst_loss - self.expected_worst_loss > _WRONG
        )


@attrs.frozen
class Attempt:
    """One candidate that was judged, released or not.

    Parameters
    ----------
    corrections
        That it added.
    closes
        Open flaws that it would have closed.
    ok
        Whether nothing refused it.
    refused_by, reason
        The first gate that refused it, and why; `engine` for what no release may do.
    """

    corrections: int
    closes: int
    ok: bool
    refused_by: str = ""
    reason: str = ""


@attrs.frozen
class Conflict:
    """Two demands that no correction can meet: to close a flaw, and to spare a known-good state.

    Parameters
    ----------
    flaw
        Id of the flaw; empty when the source calls a state known good that a norm forbids.
    norm
        That forbids the state.
    state, reward
        `[d]` of the flaw, and what it gets in the newest release.
    row
        Number of the known-good state: expert states first, then held-out ones, then further.
    good_state, good_reward
        `[d]` of that state, and its reward in release 0.
    distance
        Between the two.
    lost, cap
        What the known-good state has lost since release 0, and may lose.
    """

    flaw: str
    norm: str
    state: tuple[float, ...]
    reward: float
    row: int
    good_state: tuple[float, ...]
    good_reward: float
    distance: float
    lost: float
    cap: float

    @property
    def text(self) -> str:
        """One sentence that names both."""
        told = f"norm {self.norm} forbids ({_listed(self.state)}), reward {self.reward:.4g}"
        if not self.flaw:
            return f"{told}, and the source calls it known good (row {self.row})"
        return (
            f"{told}, and known-good state {self.row} at ({_listed(self.good_state)}), reward "
            f"{self.good_reward:.4g}, lies {self.distance:.3g} from it: it has lost "
            f"{self.lost:.3g} since release 0 and may lose {self.cap:.3g}"
        )


@attrs.frozen
class LeftOpen:
    """Flaws that stay open for the same reason.

    Parameters
    ----------
    reason
        Why.
    flaws
        How many.
    example
        Id of the first of them.
    """

    reason: str
    flaws: int
    example: str


def _listed(state: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.6g}" for value in state[:8])
    return shown if len(state) <= 8 else f"{shown}, ... {len(state)} features"
