"""A notifier: one JSON line per event, in the file that `IIRL_NOTIFY` names."""

from __future__ import annotations

import json
import os
from pathlib import Path


def notify(what: str, **details: object) -> None:
    """Append an event with its details; paths are written as text."""
    if name := os.environ.get("IIRL_NOTIFY"):
        line = json.dumps({"event": what, **details}, default=str)
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
