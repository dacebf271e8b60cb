"""The command line, as tests run it: in their own process, or in one of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Done(NamedTuple):
    """Exit code, standard output and standard error."""

    code: Any
    out: str
    err: str


Iirl = Callable[..., Done]


class Run(NamedTuple):
    chain: Path
    folder: Path
    done: Done


def names(run: Run) -> list[str]:
    manifest = json.loads((run.folder / "releases" / "0000" / "manifest.json").read_text())
    return list(manifest["features"])


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "iirl_engine", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def process(*arguments: object) -> Done:
    started = start(*arguments)
    out, err = started.communicate(timeout=600)
    return Done(started.returncode, out, err)


def parsed(text: str) -> Any:
    """Parse strict JSON: NaN and Infinity are none."""
    return json.loads(text, parse_constant=pytest.fail)


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((folder / "releases").rglob("*"))
        if file.is_file()
    }
