"""Which flaws belong together, and how many regions of them the audits probably left unseen."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Region:
    """Confirmed flaws that belong together, see `iirl_engine.regions`.

    Parameters
    ----------
    id
        That of its worst flaw, the one with the highest severity.
    round
        In which its flaws were last grouped.
    flaws
        Ids of its flaws, the worst first.
    open
        How many of them the newest release endorses.
    severity
        Highest product of reward and violation among them.
    center
        `[d]` the worst flaw's state.
    radius
        Largest Euclidean distance of a flaw from the centre.
    low, high
        `[d]` corners of the box that holds every flaw.
    nearest, distance
        `[d]` the expert state nearest to the centre, and how far away it is.
    norms, auditors
        Ids of the norms that forbid its flaws, and of the auditors that found some, sorted.
    """

    id: str
    round: int
    flaws: tuple[str, ...]
    open: int
    severity: float
    center: tuple[float, ...]
    radius: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    nearest: tuple[float, ...]
    distance: float
    norms: tuple[str, ...]
    auditors: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the documented object, with the number of flaws in place of their ids."""
        told = attrs.asdict(self) | {"flaws": len(self.flaws)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in told.items()}


@attrs.frozen
class Remaining:
    """What a round's audits probably left unseen, see `iirl_engine.remaining`.

    Parameters
    ----------
    regions
        Regions that the round's findings lie in.
    findings
        Reports that were confirmed, those of flaws already known among them.
    once, twice
        Regions that one finding lies in, and two.
    expected, low, high
        How many regions audits like these can reach: Chao 1 and its 95 % interval, which has no
        upper end without findings.
    unseen
        Probability that the next finding lies in a new region (Good-Turing).
    draws, flawed
        Uniform draws of the domain, and flaws among them.
    volume
        Share of the domain that is flawed, at most, with a confidence of 95 %; None without draws.
    """

    regions: int
    findings: int
    once: int
    twice: int
    expected: float
    low: float
    high: float | None
    unseen: float
    draws: int
    flawed: int
    volume: float | None
