"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_auditors() -> Iterator[Offer]:
    """An auditor that is clean only when it has proved it."""
    yield Offer(
        "branch-and-bound",
        "iirl_certify.auditor:BranchAndBound",
        "iirl_certify.options:BranchAndBoundOptions",
        "adversarial: proves the domain free of flaws box by box, or finds them",
    )


@hookimpl
def iirl_commands() -> Iterator[Offer]:
    """A command that writes a certificate."""
    yield Offer("certify", "iirl_certify.cli:certify", summary="Prove that a release has no flaw.")
