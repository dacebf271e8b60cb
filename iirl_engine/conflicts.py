"""Which demands cannot be met together: a flaw to close, and a known-good state to spare."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.knowngood import KnownGood
from iirl_engine.mended import Conflict
from iirl_engine.records import Flaws
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

# States closer than this share of the domain's width are one state to any correction.
_RESOLUTION = 1e-9


def conflicts(
    flaws: Flaws, rows: NDArray[np.int64], model: RewardModel, good: KnownGood, floor: float
) -> dict[int, Conflict]:
    """Return row -> conflict, for the open flaws that cannot be closed within the cap.

    No correction tells a flaw from a known-good state at (nearly) the same place, so closing it
    takes the same off both: R(flaw) - floor, where the known-good state may lose cap - lost.

    Parameters
    ----------
    flaws
        All flaws of the run.
    rows
        Those that are open.
    model
        The reward as it stands.
    good
        The known-good states, with the cap on their loss.
    floor
        Reward above this is an endorsement.
    """
    states = flaws.states[rows]
    if not len(states):
        return {}
    width = np.subtract(model.domain.high, model.domain.low).max()
    apart, nearest = good.support.nearest(torch.tensor(states))
    reward, now = model(states), model(good.states[nearest.numpy()])
    lost = good.original[nearest.numpy()] - now
    near = apart.numpy() <= _RESOLUTION * width
    found = near & (reward - floor > good.cap - lost)
    return {
        int(rows[i]): Conflict(
            flaw=flaws.ids[rows[i]],
            norm=flaws.norms[rows[i]],
            state=tuple(states[i].tolist()),
            reward=float(reward[i]),
            row=int(nearest[i]),
            good_state=tuple(good.states[nearest[i]].tolist()),
            good_reward=float(good.original[nearest[i]]),
            distance=float(apart[i]),
            lost=float(lost[i]),
            cap=good.cap,
        )
        for i in np.flatnonzero(found)
    }


def contradictions(
    known_good: Array, first: RewardModel, cap: float, floor: float
) -> list[Conflict]:
    """Return what the source calls known good, a norm forbids and the reward endorses.

    Parameters
    ----------
    known_good
        `[k, d]` as the source gives them.
    first
        Release 0.
    cap, floor
        What a known-good state may lose, and the reward that is an endorsement.
    """
    if not len(known_good):
        return []
    with torch.no_grad():
        violations = first.violations(torch.tensor(known_good))
    names = list(violations)
    measured = torch.stack([violations[name] for name in names]).numpy()
    worst, reward = measured.max(axis=0), first(known_good)
    return [
        Conflict(
            flaw="",
            norm=names[int(measured[:, row].argmax())],
            state=tuple(known_good[row].tolist()),
            reward=float(reward[row]),
            row=int(row),
            good_state=tuple(known_good[row].tolist()),
            good_reward=float(reward[row]),
            distance=0.0,
            lost=0.0,
            cap=cap,
        )
        for row in np.flatnonzero((worst > 0) & (reward > floor) & (reward - floor > cap))
    ]
