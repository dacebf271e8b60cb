"""Executors: what `local` gives, for any number of workers; a crash comes back as a result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from iirl_engine.api import Failure
from iirl_engine.testing.kit import Subject, check, require


def square_or_raise(number: int) -> int:
    """Return the square of a number, and refuse 3."""
    if number == 3:
        raise ValueError("three is not squared")
    return number * number


@check("executor")
def results_come_in_order_and_crashes_as_results(subject: Subject) -> None:
    """One answer per item, in the order of the items; one that raised is a `Failure`."""
    for changes in _crews(subject):
        results = subject.build(**changes).map(square_or_raise, range(6))
        require(len(results) == 6, f"6 items gave {len(results)} results")
        failed = results[3]
        require(isinstance(failed, Failure), f"an item that raised gave {failed!r}")
        require("three is not squared" in failed.reason, "the failure does not say why")
        rest = [result for number, result in enumerate(results) if number != 3]
        require(rest == [0, 1, 4, 16, 25], f"the results are {rest}")


@check("executor")
def each_result_comes_once_with_its_place(subject: Subject) -> None:
    """`each` tells, in any order, what `map` returns: one result of each place."""
    for changes in _crews(subject):
        executor = subject.build(**changes)
        told = list(executor.each(square_or_raise, range(6)))
        places = sorted(place for place, _ in told)
        require(places == list(range(6)), f"6 items gave results of the places {places}")
        expected = _comparable(enumerate(executor.map(square_or_raise, range(6))))
        got = _comparable(told)
        require(got == expected, f"each tells {got}, and map returns {expected}")


@check("executor")
def nothing_to_do_is_nothing_done(subject: Subject) -> None:
    """No items, no results."""
    executor = subject.build()
    require(list(executor.map(square_or_raise, [])) == [], "no items gave results")
    require(list(executor.each(square_or_raise, [])) == [], "each gave results of no items")


def _crews(subject: Subject) -> Iterator[Mapping[str, int]]:
    """Yield the changes of options that make crews of several sizes, if there is a choice."""
    if "workers" in attrs.fields_dict(subject.options_class()):
        yield from ({"workers": count} for count in (1, 2, 3))
    else:
        yield {}


def _comparable(told: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """Return place -> result, or the reason of a failure, whose traceback may differ."""
    return {place: r.reason if isinstance(r, Failure) else r for place, r in told}
