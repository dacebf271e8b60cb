"""Metrics: one row of CSV per round, in the file that `IIRL_METRICS` names."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iirl_engine.records import Round

COLUMNS = ("number", "found", "confirmed", "closed", "open", "misses", "queries", "release")


def record(run: Path, round: Round) -> None:
    """Append the counts of a round, after a header where the file is new."""
    if name := os.environ.get("IIRL_METRICS"):
        with Path(name).open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(("run", *COLUMNS))
            writer.writerow((run, *(getattr(round, column) for column in COLUMNS)))
