"""How a count of things is written."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return `1 round`, `2 rounds`, `2 queries`."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("query") else f"{noun}s"
    return f"{number:,} {noun}"
