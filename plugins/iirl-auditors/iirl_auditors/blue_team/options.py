"""Options of the blue team; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class CoverageOptions:
    """Options of auditor `coverage`."""

    budget: int = option(16384, ge=1, help="reward queries per round, shared by all it leads")
    of: tuple[str, ...] = option(
        (),
        members=True,
        help="ids of the auditors that it leads; they run under it alone, without own budgets",
    )
    discount: float = option(
        0.9, gt=0.0, le=1.0, help="weight of what a slice of budget taught, one slice later"
    )
