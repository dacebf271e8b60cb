"""Options of the out-of-distribution auditors; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class SobolOptions:
    """Options of auditor `sobol`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
