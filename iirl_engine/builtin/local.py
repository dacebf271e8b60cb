"""The executor that every other must agree with."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from iirl_engine.api import Executor, Failure
from iirl_engine.errors import told
from iirl_engine.options import NoOptions

A = TypeVar("A")
B = TypeVar("B")


class Local(Executor[NoOptions]):
    """Runs jobs in this process, one after another."""

    def map(self, function: Callable[[A], B], items: Sequence[A]) -> list[B | Failure]:
        return [result for _, result in self.each(function, items)]

    def each(
        self, function: Callable[[A], B], items: Sequence[A]
    ) -> Iterator[tuple[int, B | Failure]]:
        for place, item in enumerate(items):
            yield place, _attempt(function, item)


def _attempt(function: Callable[[A], B], item: A) -> B | Failure:
    try:
        return function(item)
    except (Exception, SystemExit) as error:
        return Failure(told(error), traceback.format_exc())
