"""What a proposal is expected to close and to cost, and what it does."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.knowngood import KnownGood
from iirl_engine.mended import Prediction
from iirl_engine.propose import Proposed
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]


@attrs.frozen
class Expected:
    """What a proposal is expected to do, before anybody judges it; fields as in `Prediction`."""

    by: str
    closes: int
    worst_loss: float
    mean_loss: float


def expected(proposed: Proposed, good: KnownGood, floor: float) -> Expected:
    """Return what the refiner expects; where it says nothing, the engine's estimate.

    How many flaws close is read off half of each region: the share of the half that closes, times
    all. What known-good states lose is measured: they are all known.
    """
    said, flaws = proposed.proposal, proposed.repair.flaws
    closes, worst, mean = said.closes, said.worst_loss, said.mean_loss
    by = "engine" if closes is None else "refiner"
    if closes is None:
        closes = 0
        names = np.array(flaws.regions or ("",) * len(flaws))
        for name in np.unique(names):
            rows = np.flatnonzero(names == name)
            closed = proposed.model(flaws.states[rows[::2]]) <= floor
            closes += round(float(closed.mean()) * len(rows))
    if worst is None or mean is None:
        lost = good.original - proposed.model(good.states)
        worst = float(lost.max()) if worst is None else worst
        mean = float(lost.mean()) if mean is None else mean
    return Expected(by, closes, worst, mean)


def prediction(
    proposed: Proposed,
    expects: Expected,
    withheld: Array,
    released: RewardModel | None,
    good: KnownGood,
    floor: float,
) -> Prediction:
    """Return what was expected of a proposal beside what it did.

    Parameters
    ----------
    withheld
        `[w, d]` open flaws that no refiner was shown.
    released
        What the round released in the end, if anything.
    """
    asked = proposed.repair.flaws.states
    lost = good.original - proposed.model(good.states)
    return Prediction(
        refiner=proposed.refiner,
        by=expects.by,
        asked=len(asked),
        withheld=len(withheld),
        expected_closes=expects.closes,
        closed=_closed(proposed.model, asked, floor),
        closed_withheld=_closed(proposed.model, withheld, floor),
        kept=0 if released is None else _closed(released, asked, floor),
        expected_worst_loss=expects.worst_loss,
        worst_loss=float(lost.max()),
        expected_mean_loss=expects.mean_loss,
        mean_loss=float(lost.mean()),
    )


def _closed(model: RewardModel, states: Array, floor: float) -> int:
    return int((model(states) <= floor).sum()) if len(states) else 0
