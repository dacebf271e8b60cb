"""What the core offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine.hookspecs import hookimpl
from iirl_engine.offer import Offer

IIRL_API = 1
_HERE = "iirl_engine.builtin"
_OPTIONS = f"{_HERE}.options"


@hookimpl
def iirl_sources() -> Iterator[Offer]:
    """Files and the toy world."""
    yield Offer("npz", f"{_HERE}.files:Npz", f"{_OPTIONS}:NpzOptions", "states from a NumPy file")
    yield Offer(
        "csv", f"{_HERE}.files:Csv", f"{_OPTIONS}:CsvOptions", "states from a comma-separated file"
    )
    yield Offer("figure1", f"{_HERE}.figure1:Figure1", summary="the 3-D toy world of the paper")


@hookimpl
def iirl_schedules() -> Iterator[Offer]:
    """Strengths over time and by norm."""
    here = f"{_HERE}.schedules"
    yield Offer(
        "constant", f"{here}:Constant", f"{_OPTIONS}:ConstantOptions", "the same at all times"
    )
    yield Offer(
        "exponential",
        f"{here}:Exponential",
        f"{_OPTIONS}:ExponentialOptions",
        "halves every so often",
    )
    yield Offer(
        "linear", f"{here}:Linear", f"{_OPTIONS}:LinearDecayOptions", "falls in a straight line"
    )
    yield Offer(
        "region", f"{here}:Region", f"{_OPTIONS}:RegionOptions", "one inside a norm, one outside"
    )


@hookimpl
def iirl_norms() -> Iterator[Offer]:
    """Distance, boxes and half-spaces."""
    yield Offer(
        "support",
        f"{_HERE}.norms:SupportNorm",
        f"{_OPTIONS}:SupportOptions",
        "near some expert state",
    )
    yield Offer(
        "box", f"{_HERE}.norms:BoxNorm", f"{_OPTIONS}:BoxOptions", "inside, or outside, a box"
    )
    yield Offer("linear", f"{_HERE}.norms:LinearNorm", f"{_OPTIONS}:LinearOptions", "a.s <= b")


@hookimpl
def iirl_triages() -> Iterator[Offer]:
    """Orders of attention."""
    yield Offer("severity", f"{_HERE}.severity:Severity", summary="highest reward first")


@hookimpl
def iirl_gates() -> Iterator[Offer]:
    """What every candidate should pass."""
    yield Offer(
        "known-good",
        f"{_HERE}.gates:KnownGood",
        f"{_OPTIONS}:KnownGoodOptions",
        "known-good states keep their reward, over all releases",
    )
    yield Offer(
        "closure",
        f"{_HERE}.gates:Closure",
        f"{_OPTIONS}:ClosureOptions",
        "open flaws are closed and closed ones stay closed",
    )
    yield Offer(
        "collateral",
        f"{_HERE}.collateral:Collateral",
        f"{_OPTIONS}:CollateralOptions",
        "states that nobody labelled keep their reward, near flaws and far from them",
    )
    yield Offer(
        "local-red-team",
        f"{_HERE}.local_red_team:LocalRedTeam",
        f"{_OPTIONS}:LocalRedTeamOptions",
        "a fresh search around every correction and closed flaw finds next to none",
    )
    yield Offer(
        "ordering",
        f"{_HERE}.ordering:Ordering",
        f"{_OPTIONS}:OrderingOptions",
        "graded policies stay in the order of their true returns",
    )
    yield Offer(
        "trainable",
        f"{_HERE}.trainable:Trainable",
        f"{_OPTIONS}:TrainableOptions",
        "the way from start states to demonstrations gets no flatter",
    )
    yield Offer(
        "budget",
        f"{_HERE}.budget:Budget",
        f"{_OPTIONS}:BudgetOptions",
        "corrections stay few, and cheap to evaluate",
    )


@hookimpl
def iirl_executors() -> Iterator[Offer]:
    """Where jobs run."""
    yield Offer("local", f"{_HERE}.local:Local", summary="in this process, one after another")


@hookimpl
def iirl_reporters() -> Iterator[Offer]:
    """What a run leaves to read."""
    yield Offer("text", f"{_HERE}.text:Text", summary="report.txt, plain text")
    yield Offer(
        "html", f"{_HERE}.html:Html", f"{_OPTIONS}:HtmlOptions", "report.html, one offline page"
    )
