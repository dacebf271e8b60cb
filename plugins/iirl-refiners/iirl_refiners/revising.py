"""What a revision of encoder and mapping would do to a reward, and whether that may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iirl_engine import Correction, Proposal, Repair, Revision, RewardModel


def revised(repair: Repair, added: Sequence[Correction], why: str) -> Proposal:
    """Return the proposal of a revision with what it will do: its reward is at hand.

    It takes the place of every earlier revision, and of what the same refiner added to that.

    Parameters
    ----------
    added
        The revision, and what goes with it.
    why
        Said of each flaw that stays open.
    """
    replaced = [
        c.id
        for c in repair.model.corrections
        if isinstance(c, Revision) or c.refiner == added[0].refiner
    ]
    mended = _mended(repair, Proposal(added, replaces=replaced))
    loss = repair.original - mended(repair.known_good)
    is_open = np.zeros(len(repair.flaws), dtype=np.bool_)
    if len(repair.flaws):
        is_open = mended(repair.flaws.states) > repair.floor
    return Proposal(
        added,
        closes=int((~is_open).sum()),
        worst_loss=float(loss.max(initial=0.0)),
        mean_loss=float(loss.mean()) if len(loss) else 0.0,
        left=dict.fromkeys(np.flatnonzero(is_open).tolist(), why),
        replaces=replaced,
    )


def spares(repair: Repair, one: Proposal, max_loss: float) -> bool:
    """Say whether known-good states keep their reward and closed flaws stay closed."""
    if one.worst_loss is None or one.worst_loss > max_loss:
        return False
    if not len(repair.closed):
        return True
    return bool((_mended(repair, one)(repair.closed) <= repair.floor).all())


def _mended(repair: Repair, one: Proposal) -> RewardModel:
    kept = [c for c in repair.model.corrections if c.id not in one.replaces]
    return repair.model.evolve(corrections=(*kept, *one.corrections))
