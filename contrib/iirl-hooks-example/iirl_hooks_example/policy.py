"""A policy: rewards learned from data that nobody approved are not released.

`IIRL_APPROVED_DATA` names a file with one fingerprint of demonstrations per line; `#` begins a
comment. Without a list that can be read, no data is approved.
"""

from __future__ import annotations

import os
from pathlib import Path


def objection(data: str) -> str | None:
    """Return why a reward learned from this data is not to be released, or None."""
    name = os.environ.get("IIRL_APPROVED_DATA")
    if not name:
        return "no data is approved: IIRL_APPROVED_DATA is not set"
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        return f"no data is approved: {name} cannot be read ({type(error).__name__})"
    if data not in {line.partition("#")[0].strip() for line in lines}:
        return f"learned from data {data[:12]}, which {name} does not approve"
    return None
