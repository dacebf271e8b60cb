"""What a turn of the flywheel came to, in counts, and the release it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iirl_engine.evidence import Judgement
    from iirl_engine.mended import Attempt, Conflict, Prediction
    from iirl_engine.records.findings import AuditStatus
    from iirl_engine.records.regions import Remaining


@attrs.frozen
class AuditSummary:
    """One auditor's line in a round: how it ended and what it cost.

    Parameters
    ----------
    evidence
        The weakest evidence, by each method, that what it reported is unlike the demonstrations,
        such as "p <= 0.004 by split-conformal"; empty where it gave none.
    concerns, grave
        How many concerns it has, and how many of them are grave.
    draws, flawed
        How many uniform draws of the domain it surveyed, and how many of them are flaws.
    budget
        Queries that it might have asked; 0 where that is not known.
    exhaustive
        Whether it ends when it has looked at all there is for it to look at.
    """

    auditor: str
    status: AuditStatus
    found: int
    confirmed: int
    queries: int
    seconds: float
    reason: str = ""
    evidence: str = ""
    concerns: int = 0
    grave: int = 0
    draws: int = 0
    flawed: int = 0
    budget: int = 0
    exhaustive: bool = False

    @property
    def hardly_looked(self) -> bool:
        """True when it found nothing because it asked next to nothing: under 1 % of its budget.

        A survey looks without queries where a reward is silenced, and who looks at all there is
        may need few.
        """
        nothing = self.status == "clean" and not (self.found or self.concerns or self.draws)
        return nothing and not self.exhaustive and 100 * self.queries < self.budget


@attrs.frozen
class Round:
    """One turn of the flywheel, in counts.

    Parameters
    ----------
    number
        1 for the first round.
    found
        States that auditors reported.
    confirmed
        Flaws among them that were not known before.
    closed
        Open flaws that this round's release closed.
    open
        Confirmed flaws of the run that the newest release still endorses.
    misses
        Known-good states with a reward below `good_floor` after the round.
    corrections
        Corrections in the newest release.
    queries
        Reward queries of the round, auditors and verification together.
    seconds
        CPU seconds of the round.
    release
        Number of the release that the round made, or None.
    regions, open_regions
        Regions of flaws that the audited reward endorses, and those still open after the round.
    remaining
        What the audits probably left unseen.
    predictions
        What each refiner's proposal was expected to do, and what it did.
    attempts
        The candidates that were judged, in turn.
    conflicts
        Demands that no correction can meet.
    """

    number: int
    found: int
    confirmed: int
    closed: int
    open: int
    misses: int
    corrections: int
    queries: int
    seconds: float
    release: int | None
    audits: tuple[AuditSummary, ...]
    gates: tuple[Judgement, ...]
    vetoes: tuple[str, ...] = ()
    regions: int = 0
    open_regions: int = 0
    remaining: Remaining | None = None
    predictions: tuple[Prediction, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def sound(self) -> bool:
        """True when no audit crashed or overran its budget, and no concern is grave.

        An undecided audit counts: it has searched, like any other, and proved nothing.
        """
        fine = ("clean", "findings", "undecided")
        return all(a.status in fine and not a.grave for a in self.audits)


@attrs.frozen(eq=False)
class Released:
    """What a run's knowledge base says of one of its releases.

    Parameters
    ----------
    number
        Of the release.
    round
        The round that made it; 0 for the reward as learned.
    fingerprints
        Part -> SHA-256, see `iirl_engine.formula.Formula.fingerprints`.
    """

    number: int
    round: int
    fingerprints: Mapping[str, str]
