"""What a whole run came to, and what a reporter tells of it."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from iirl_engine.evidence import Judgement
    from iirl_engine.mended import LeftOpen
    from iirl_engine.records.findings import Concern, Flaws
    from iirl_engine.records.regions import Region
    from iirl_engine.records.rounds import Round
    from iirl_engine.reward import RewardModel


def _plain(_: object, __: object, value: Any) -> Any:
    return dict(value) if isinstance(value, types.MappingProxyType) else value


def _is_told(attribute: attrs.Attribute[Any], _: object) -> bool:
    # Whom a gate blames matters while a round lasts.
    return attribute.name != "blames"


@attrs.frozen
class Outcome:
    """What a run came to; `iirl run --json` prints it.

    Parameters
    ----------
    demonstrations
        What the norms left of the demonstrations, see `iirl_engine.screening.Screening`.
    concerns
        What auditors noticed in any round that no norm can decide.
    regions
        Of all confirmed flaws; those with open flaws first, then the most severe.
    left_open
        Why flaws stay open: those of the same reason together, the most first.
    unfinished
        Auditor -> states that it suspects, for the audits that have ended in the round after
        `rounds`; nobody has verified them.
    missing
        What has become of plugins that took part, when the reports are written again without them.
    """

    run: Path
    release: Path
    rounds: tuple[Round, ...]
    open_flaws: int
    plugins: tuple[tuple[str, str], ...]
    reports: tuple[Path, ...] = ()
    demonstrations: Mapping[str, Any] = attrs.field(factory=dict)
    concerns: tuple[Concern, ...] = ()
    regions: tuple[Region, ...] = ()
    left_open: tuple[LeftOpen, ...] = ()
    missing: tuple[str, ...] = ()
    unfinished: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def gates(self) -> tuple[Judgement, ...]:
        """Judgements of the last candidate."""
        return next((r.gates for r in reversed(self.rounds) if r.gates), ())

    @property
    def queries(self) -> int:
        """Reward queries of all rounds."""
        return sum(r.queries for r in self.rounds)

    @property
    def seconds(self) -> float:
        """CPU seconds of all rounds."""
        return sum(r.seconds for r in self.rounds)

    @property
    def ok(self) -> bool:
        """True when no flaw is open, no demand contradicts another, and the last round is in order.

        It neither failed nor refused anything.

        A concern that is not grave does not change it.
        """
        if self.open_flaws:
            return False
        if not self.rounds:
            return True
        last = self.rounds[-1]
        if last.conflicts:
            return False
        return last.sound and not last.vetoes and all(gate.ok for gate in last.gates)

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl run --json` prints."""
        return {
            "run": str(self.run),
            "release": str(self.release),
            "rounds": [
                attrs.asdict(r, filter=_is_told, value_serializer=_plain) for r in self.rounds
            ],
            "gates": [
                {"name": g.gate, "ok": g.ok, "numbers": dict(g.numbers), "reason": g.reason}
                for g in self.gates
            ],
            "open_flaws": self.open_flaws,
            "concerns": [concern.to_json() for concern in self.concerns],
            "regions": [region.to_json() for region in self.regions],
            "left_open": [attrs.asdict(left) for left in self.left_open],
            "demonstrations": dict(self.demonstrations),
            "queries": self.queries,
            "seconds": self.seconds,
            "plugins": [{"dist": dist, "version": version} for dist, version in self.plugins],
            "reports": [str(path) for path in self.reports],
        }


@attrs.frozen(eq=False)
class Report:
    """What a reporter tells of: the outcome, the reward before and after, and the flaws.

    Parameters
    ----------
    before, after
        Release 0 and the newest release.
    flaws
        All confirmed flaws of the run.
    still_open
        `[m]` whether `after` still endorses each of them.
    floor
        Reward above this is an endorsement.
    chain
        The effective chain file.
    """

    outcome: Outcome
    before: RewardModel
    after: RewardModel
    flaws: Flaws
    still_open: NDArray[np.bool_]
    floor: float
    chain: str
