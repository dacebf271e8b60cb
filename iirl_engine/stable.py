"""Which release the finished rounds of a run endorse."""

from __future__ import annotations

from collections.abc import Sequence

from iirl_engine.records import Round


def stable_release(rounds: Sequence[Round]) -> int | None:
    """Return the release that finished rounds endorse, or None.

    A release is endorsed by the round that made it, and the newest one by a round that finds
    nothing; but never by a round with a failed audit or a veto.
    """
    newest, stable = 0, None
    for finished in rounds:
        newest = newest if finished.release is None else finished.release
        clean = finished.confirmed == 0 and finished.open == 0
        if finished.sound and not finished.vetoes and (finished.release is not None or clean):
            stable = newest
    return stable
