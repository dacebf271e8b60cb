"""Options of the gradient-extrapolation auditors; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class RayOptions:
    """Options of auditor `ray`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(32, ge=1, help="probes along each ray")
