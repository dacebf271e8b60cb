"""Who failed: whatever a strategy raises becomes an error that names it and its task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from iirl_engine.chain import Step
from iirl_engine.errors import IirlError, PluginError, told


@contextmanager
def blame(step: Step, task: str) -> Iterator[None]:
    """Turn what a strategy raises while it does `task` into a `PluginError`.

    Errors written for the user, such as a source's `DataError`, pass as they are.
    """
    try:
        yield
    except IirlError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{step.entry.kind} {step.entry.qualified} failed to {task}",
            where=step.id,
            got=told(error),
            next_step="run again with --debug for the traceback; what was found is kept",
        ) from error
