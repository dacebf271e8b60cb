"""What the command line costs at its start, with twenty more plugins installed.

    python -m tests.benchmarks.startup

CPU time, user and system, of a process with the engine, its plugins and twenty further
distributions on the path, less that of a bare interpreter: the median of twenty runs after two
that fill the caches. The twenty offer two strategies with one options class each, then six with
three. The target is 150 ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.startup import COUNT, OPTIONS, write_plugins

RUNS = 20
TARGET = 0.150


def environment(folder: Path) -> dict[str, str]:
    """Return variables with which bytecode is kept, as where plugins are installed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def seconds(command: Sequence[str], folder: Path) -> float:
    """Return the CPU time of one run."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        env=environment(folder),
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exits with {process.returncode}")
    return used.ru_utime + used.ru_stime


def median(command: Sequence[str], folder: Path) -> float:
    """Return the median CPU time."""
    runs = [seconds(command, folder) for _ in range(RUNS + 2)]
    return statistics.median(runs[2:])


def main() -> None:
    """Print one line per command, for small plugins and for large ones."""
    iirl = str(Path(sysconfig.get_path("scripts")) / "iirl")
    print(f"CPU time in ms, median of {RUNS}, {COUNT} further plugins installed")
    print(f"{'offers each':<13}{'command':<20}{'CPU':>7}{'over bare':>11}{'target':>8}")
    for kinds in (("auditors",), tuple(OPTIONS)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_plugins(folder, kinds=kinds)
            offers = f"{2 * len(kinds):<13}"
            bare = median([sys.executable, "-c", "pass"], folder)
            print(f"{offers}{'python -c pass':<20}{1000 * bare:>7.0f}")
            for arguments in (["--help"], ["plugins", "list"]):
                whole = median([sys.executable, iirl, *arguments], folder)
                over = f"{1000 * (whole - bare):>11.0f}{1000 * TARGET:>8.0f}"
                print(f"{offers}{'iirl ' + ' '.join(arguments):<20}{1000 * whole:>7.0f}{over}")


if __name__ == "__main__":
    main()
