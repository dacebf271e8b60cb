"""What the command line did, for tests that run it in their own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Done(NamedTuple):
    """Exit code, standard output and standard error."""

    code: Any
    out: str
    err: str


Iirl = Callable[..., Done]
