"""Executors: what `local` gives, for any number of workers; a crash comes back as a result."""

from __future__ import annotations

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
    has_workers = "workers" in attrs.fields_dict(subject.options_class())
    for changes in [{"workers": n} for n in (1, 2, 3)] if has_workers else [{}]:
        results = subject.build(**changes).map(square_or_raise, range(6))
        require(len(results) == 6, f"6 items gave {len(results)} results")
        failed = results[3]
        require(isinstance(failed, Failure), f"an item that raised gave {failed!r}")
        require("three is not squared" in failed.reason, "the failure does not say why")
        rest = [result for number, result in enumerate(results) if number != 3]
        require(rest == [0, 1, 4, 16, 25], f"the results are {rest}")


@check("executor")
def nothing_to_do_is_nothing_done(subject: Subject) -> None:
    """No items, no results."""
    require(list(subject.build().map(square_or_raise, [])) == [], "no items gave results")
