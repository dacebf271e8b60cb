"""How a command shows its progress: one line at a time, on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

import click


@contextlib.contextmanager
def shown() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows one line of progress on stderr, with a spinner on a terminal."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        console = Console(stderr=True, highlight=False)
        handler = RichHandler(console=console, show_time=False, show_path=False)
        with _logging(handler), console.status("working"):

            def show(line: str) -> None:
                console.print(line, markup=False)

            yield show
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    with _logging(handler):
        yield lambda line: click.echo(line, err=True)


@contextlib.contextmanager
def _logging(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("iirl_engine")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
