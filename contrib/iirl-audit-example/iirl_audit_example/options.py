"""Options of the auditor; imports nothing heavy."""

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class SegmentOptions:
    """Options of auditor `segment`."""

    budget: int = option(4096, ge=1, help="reward queries per round")
    beyond: float = option(
        0.5, ge=0.0, le=1.0, help="share of the probes that lie beyond the second state"
    )
