"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_auditors() -> Iterator[Offer]:
    """Offer the auditor."""
    yield Offer(
        "segment",
        "iirl_audit_example.segment:Segment",
        "iirl_audit_example.options:SegmentOptions",
        "out-of-distribution: lines through pairs of expert states",
    )
