"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1
_OPTIONS = "iirl_refiners.options"


@hookimpl
def iirl_refiners() -> Iterator[Offer]:
    """Refiners that fade the reward at limits, and refiners that place kernels."""
    yield Offer(
        "envelope",
        "iirl_refiners.fades:Envelope",
        f"{_OPTIONS}:EnvelopeOptions",
        "the reward fades to 0 between two support distances",
    )
    yield Offer(
        "norm-mask",
        "iirl_refiners.fades:NormMask",
        f"{_OPTIONS}:NormMaskOptions",
        "the reward fades to 0 as the limit of a norm is approached",
    )
    yield Offer(
        "kernel-greedy",
        "iirl_refiners.greedy:KernelGreedy",
        f"{_OPTIONS}:KernelGreedyOptions",
        "one Gaussian kernel per flaw, wider farther out (baseline)",
    )
    yield Offer(
        "kernel-lp",
        "iirl_refiners.lp:KernelLp",
        f"{_OPTIONS}:KernelLpOptions",
        "local kernels chosen by a linear program under a cap on every known-good state",
    )
    yield Offer(
        "halfspaces",
        "iirl_refiners.halfspaces:Halfspaces",
        f"{_OPTIONS}:HalfspacesOptions",
        "no reward beyond sparse planes learned from flaws and known-good states",
    )
    yield Offer(
        "enclosing-balls",
        "iirl_refiners.enclosing:EnclosingBalls",
        f"{_OPTIONS}:EnclosingBallsOptions",
        "balls around groups of flaws, up to the nearest known-good state",
    )
    yield Offer(
        "merge",
        "iirl_refiners.merge:Merge",
        f"{_OPTIONS}:MergeOptions",
        "fewer kernels in place of those of all rounds; nothing closed reopens",
    )
    yield Offer(
        "sculpt",
        "iirl_refiners.sculpt:SculptMapping",
        f"{_OPTIONS}:SculptOptions",
        "a monotone mapping of the base reward, fitted to verdicts everywhere and around flaws",
    )
    yield Offer(
        "contrast",
        "iirl_refiners.contrast:Contrast",
        f"{_OPTIONS}:ContrastOptions",
        "encoder and mapping are fitted anew with the flaws as negatives",
    )
    yield Offer(
        "unlearn",
        "iirl_refiners.unlearn:Unlearn",
        f"{_OPTIONS}:UnlearnOptions",
        "demonstrations are forgotten, as though never seen: those named, or those behind flaws",
    )
