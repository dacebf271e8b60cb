"""What a candidate's corrections can be taken apart into, and which pieces are at fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.corrections.base import Correction
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]


@attrs.frozen(order=True)
class Piece:
    """One part of one of a candidate's corrections, such as a kernel.

    Parameters
    ----------
    place
        Of the correction in the candidate.
    part
        Number of the part.
    name
        The correction's id, or `id[3]` where it has more than one part.
    """

    place: int
    part: int
    name: str = attrs.field(order=False)


def take_apart(corrections: Sequence[Correction], model: RewardModel) -> list[Piece]:
    """Return the pieces of corrections; `model` tells them what they look at."""
    pieces = []
    for place, correction in enumerate(corrections):
        parts = _effects(correction, model, model.demonstrations.states[:1]).shape[1]
        names = [correction.id] if parts == 1 else [f"{correction.id}[{i}]" for i in range(parts)]
        pieces += [Piece(place, i, name) for i, name in enumerate(names)]
    return pieces


def put_together(corrections: Sequence[Correction], pieces: Iterable[Piece]) -> list[Correction]:
    """Return the corrections with these pieces alone; one without any is left out."""
    parts: dict[int, list[int]] = {}
    for piece in sorted(pieces):
        parts.setdefault(piece.place, []).append(piece.part)
    return [corrections[place].take(np.array(rows)) for place, rows in parts.items()]


def effects(
    corrections: Sequence[Correction], pieces: Sequence[Piece], model: RewardModel, states: Array
) -> Array:
    """Return what each piece takes off the base reward of each of `states`, `[n, pieces]`."""
    of = [_effects(correction, model, states) for correction in corrections]
    columns = [of[piece.place][:, piece.part] for piece in pieces]
    return np.stack(columns, axis=1) if columns else np.empty((len(states), 0))


def at_fault(
    corrections: Sequence[Correction], model: RewardModel, states: Array, least: Array
) -> tuple[str, ...]:
    """Return the names of the pieces to leave out for `states` to keep the reward they should.

    Greedily, for each state in turn: the pieces that take most off it, until it has what it should.

    Parameters
    ----------
    corrections
        Of the candidate; the model's last.
    model
        The candidate's reward.
    states
        `[n, d]`, few.
    least
        `[n]` the reward that each should keep.
    """
    pieces = take_apart(corrections, model)
    taken = effects(corrections, pieces, model, states)
    with torch.no_grad():
        view = model.view(torch.tensor(states))
        left = view.base
        for correction in model.corrections:
            left = left - correction.suppression(view)
        short = least - left.numpy()
    gone = np.zeros(len(pieces), dtype=np.bool_)
    for row in np.argsort(-short, kind="stable"):
        missing = short[row] - taken[row, gone].sum()
        for column in np.argsort(-taken[row], kind="stable"):
            if missing <= 0 or taken[row, column] <= 0:
                break
            if not gone[column]:
                gone[column] = True
                missing -= taken[row, column]
    return tuple(pieces[i].name for i in np.flatnonzero(gone))


def _effects(correction: Correction, model: RewardModel, states: Array) -> Array:
    with torch.no_grad():
        return correction.effects(model.view(torch.tensor(states))).numpy()
