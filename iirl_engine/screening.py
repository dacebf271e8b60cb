"""Which demonstrations the norms forbid, and how much of the ground the others still cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.demonstrations import read_only, take
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations
from iirl_engine.reward import violations


@attrs.frozen
class Screening:
    """What the norms left of the demonstrations.

    Parameters
    ----------
    loaded, kept
        Number of expert states before and after.
    dropped
        (norm id, how many states it forbids), for each norm that forbids any; a state that
        several norms forbid counts for each.
    covered
        Share of the loaded states no farther from a kept one than twice the 99 % quantile of
        the distance from each kept state to the next: below 1 where dropping left a hole.
    span
        (feature name, share of the loaded range that the kept states span), the feature that
        lost most.
    """

    loaded: int
    kept: int
    dropped: tuple[tuple[str, int], ...]
    covered: float
    span: tuple[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the object that a release's manifest and `iirl run --json` hold."""
        return {
            "loaded": self.loaded,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "covered": self.covered,
            "span": {"feature": self.span[0], "share": self.span[1]},
        }


def screen(data: Demonstrations, norms: Mapping[str, Any]) -> tuple[Demonstrations, Screening]:
    """Drop the expert states, held out or not, that a norm forbids.

    Parameters
    ----------
    data
        As loaded.
    norms
        Norm id -> norm, fitted on `data`.

    Raises
    ------
    DataError
        When nothing is left.
    """
    forbidden = _forbidden(norms, data.states)
    kept = ~np.any(list(forbidden.values()), axis=0)
    if not kept.any():
        raise DataError(
            "the norms forbid every demonstration",
            where=", ".join(name for name, rows in forbidden.items() if rows.any()),
            next_step="compare the norms' limits with the data",
        )
    left = data if kept.all() else take(data, kept)
    if len(data.held_out):
        allowed = ~np.any(list(_forbidden(norms, data.held_out).values()), axis=0)
        episode = data.held_out_episode
        left = attrs.evolve(
            left,
            held_out=read_only(data.held_out[allowed]),
            held_out_episode=None if episode is None else read_only(episode[allowed]),
        )
    covered, span = _coverage(data, left)
    return left, Screening(
        loaded=len(data.states),
        kept=int(kept.sum()),
        dropped=tuple((name, int(rows.sum())) for name, rows in forbidden.items() if rows.any()),
        covered=covered,
        span=span,
    )


def _forbidden(
    norms: Mapping[str, Any], states: NDArray[np.float64]
) -> dict[str, NDArray[np.bool_]]:
    with torch.no_grad():
        found = violations(norms, torch.tensor(states))
    return {name: (violation > 0).numpy() for name, violation in found.items()}


def _coverage(data: Demonstrations, left: Demonstrations) -> tuple[float, tuple[str, float]]:
    if len(left.states) == len(data.states):
        return 1.0, (data.feature_names[0], 1.0)
    before = np.ptp(data.states, axis=0)
    after = np.ptp(left.states, axis=0)
    share = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    least = int(share.argmin())
    apart = left.support.spacing
    apart = apart[torch.isfinite(apart) & (apart > 0)]
    if len(apart) == 0:
        return len(left.states) / len(data.states), (data.feature_names[least], float(share[least]))
    reach = 2 * torch.quantile(apart[: 2**24], 0.99)
    near = (left.support.distance(torch.tensor(data.states)) <= reach).double().mean()
    return float(near), (data.feature_names[least], float(share[least]))
