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
from queue import Empty, SimpleQueue
from typing import Any, Literal, Self, TypeVar

import attrs

from iirl_engine.errors import UsageError, told
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


@attrs.frozen
class Raised:
    """What a plugin's code raised, be it `SystemExit`."""

    error: BaseException


class Isolation:
    """Does the work of plugins in a thread, so that one that hangs can be left behind.

    One thread serves until a task hangs in it: starting one for each takes too long.

    Parameters
    ----------
    limit
        Seconds that a task may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._tasks: SimpleQueue[Callable[[], Any] | None]
        self._results: SimpleQueue[Any]
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.put(None)

    def __call__(self, task: Callable[[], T], slow: Callable[[], str]) -> T | Raised:
        """Return what a task returns or raises; a `LoadError` when that takes too long.

        What it prints goes to stderr: stdout is for results. `slow` says what was not done in time.
        """
        with contextlib.redirect_stdout(sys.stderr):
            self._tasks.put(task)
            try:
                done: T | Raised = self._results.get(timeout=self._limit)
            except Empty:
                self._tasks.put(None)
                self._start()
                raise LoadError(f"{slow()} within {self._limit:g} s (IIRL_IMPORT_LIMIT)") from None
        return done

    def _start(self) -> None:
        self._tasks, self._results = SimpleQueue(), SimpleQueue()
        threading.Thread(target=_serve, args=(self._tasks, self._results), daemon=True).start()


def _serve(tasks: SimpleQueue[Callable[[], Any] | None], results: SimpleQueue[Any]) -> None:
    while task := tasks.get():
        try:
            results.put(task())
        except BaseException as error:
            results.put(Raised(error))


def import_hook_module(
    module_name: str, requires: Iterable[str], isolation: Isolation
) -> types.ModuleType:
    """Import a hook module, or raise a `LoadError` that says why it cannot be.

    `requires` are the requirements of its distribution, for the hint about a missing one.
    """
    done = isolation(
        lambda: importlib.import_module(module_name),
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
