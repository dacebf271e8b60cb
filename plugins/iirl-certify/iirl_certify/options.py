"""Options of the auditor; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class BranchAndBoundOptions:
    """Options of auditor `branch-and-bound`."""

    budget: int = option(
        32768, ge=1, help="reward queries per round: one for each box, one for each middle scored"
    )
    margin: float = option(
        0.0, ge=0.0, help="how far beyond its boundary the norm support forbids, in its units"
    )
    method: Literal["interval", "crown-ibp", "crown"] = option(
        "crown", help="how the encoder's loss is bounded"
    )
