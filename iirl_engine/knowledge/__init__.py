"""The knowledge base: every audit, flaw, judgement and release of a run, in one SQLite file.

Every number of a report is a row here.
"""

from __future__ import annotations

from iirl_engine.knowledge.rounds import Rounds


class Knowledge(Rounds):
    """One run's knowledge base: what its rounds, their audits and its releases leave."""
