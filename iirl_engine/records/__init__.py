"""The frozen records that flow between the phases.

Arrays inside records are read-only float64 NumPy arrays. No module here imports an array library,
so that hook modules and the command line stay light.
"""

from iirl_engine.records.demonstrations import Demonstrations, Domain, NormSpec
from iirl_engine.records.events import FlawsFound, ReleaseMade, RoundFinished, RunStarted
from iirl_engine.records.findings import AuditResult, AuditStatus, Concern, Family, Flaws, Suspects
from iirl_engine.records.outcome import Outcome, Report
from iirl_engine.records.regions import Region, Remaining
from iirl_engine.records.rounds import AuditSummary, Released, Round

__all__ = [
    "AuditResult",
    "AuditStatus",
    "AuditSummary",
    "Concern",
    "Demonstrations",
    "Domain",
    "Family",
    "Flaws",
    "FlawsFound",
    "NormSpec",
    "Outcome",
    "Region",
    "ReleaseMade",
    "Released",
    "Remaining",
    "Report",
    "Round",
    "RoundFinished",
    "RunStarted",
    "Suspects",
]
