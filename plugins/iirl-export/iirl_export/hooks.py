"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_commands() -> Iterator[Offer]:
    """A command that writes a release as one file."""
    yield Offer("export", "iirl_export.cli:export", summary="Export a release to ONNX or torch.")
