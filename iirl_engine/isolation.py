"""How code of strangers is run at arm's length: within a time limit, every failure a reason."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Literal, TypeVar

import attrs

from iirl_engine.errors import UsageError
from iirl_engine.installed import normalise

T = TypeVar("T")

LIMIT_SECONDS = 5.0


class LoadError(Exception):
    """Why a plugin cannot be used."""

    def __init__(self, reason: str, status: Literal["broken", "incompatible"] = "broken") -> None:
        super().__init__(reason)
        self.status = status


def import_limit() -> float:
    """Return how many seconds a hook module may take to import."""
    text = os.environ.get("IIRL_IMPORT_LIMIT") or str(LIMIT_SECONDS)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < threading.TIMEOUT_MAX:
        raise UsageError(
            "IIRL_IMPORT_LIMIT is no number of seconds above 0",
            got=text,
            next_step="unset it, or set it to a number such as 5",
        )
    return limit


def within_limit(task: Callable[[], T], limit: float, slow: Callable[[], str]) -> T | Raised:
    """Do a plugin's work in a thread of its own, so that one that hangs can be left behind.

    What it prints goes to stderr: stdout is for results. `slow` says what was not done in time.
    """
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(task())
        except BaseException as error:
            done.set_exception(error)

    with contextlib.redirect_stdout(sys.stderr):
        threading.Thread(target=work, daemon=True).start()
        try:
            error = done.exception(limit)
        except TimeoutError:
            raise LoadError(f"{slow()} within {limit:g} s (IIRL_IMPORT_LIMIT)") from None
    return done.result() if error is None else Raised(error)


@attrs.frozen
class Raised:
    """What a plugin's code raised, be it `SystemExit`."""

    error: BaseException


def import_hook_module(module_name: str, requires: Iterable[str], limit: float) -> types.ModuleType:
    """Import a hook module, or raise a `LoadError` that says why it cannot be.

    `requires` are the requirements of its distribution, for the hint about a missing one.
    """
    done = within_limit(
        lambda: importlib.import_module(module_name),
        limit,
        lambda: f"slow import: a hook module imports nothing heavy; {module_name} was not imported",
    )
    if isinstance(done, Raised):
        raise LoadError(_import_reason(done.error, module_name, requires)) from done.error
    return done


def _import_reason(error: BaseException, module_name: str, requires: Iterable[str]) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{module_name}.".startswith(f"{error.name}."):
            return f"its entry point names the module {module_name!r}, which does not exist"
        missing = error.name.partition(".")[0]
        if importlib.util.find_spec(missing) is None:
            wanted = [r for r in requires if normalise(_required(r)) == normalise(missing)]
            if wanted:
                line = wanted[0].partition(";")[0].strip()
                return f"missing dependency: {line} is not installed; pip install {line!r}"
            return f"missing dependency: module {missing!r} is not installed"
    if isinstance(error, SyntaxError):
        return f"syntax error: {error.msg} ({error.filename}, line {error.lineno})"
    return f"import failed: {told(error)}"


def _required(requirement: str) -> str:
    name = re.match(r"\s*[A-Za-z0-9._-]+", requirement)
    return name.group() if name else ""


def told(error: BaseException) -> str:
    """Return an exception as one line that any file can hold, even if it cannot tell itself."""
    try:
        text = str(error)
    except Exception:
        text = "it cannot be told"
    line = " ".join(f"{type(error).__name__}: {text}".split())
    return line.encode("utf-8", "backslashreplace").decode()
