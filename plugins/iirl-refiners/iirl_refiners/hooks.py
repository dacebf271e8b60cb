"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl
from iirl_refiners import options as o

IIRL_API = 1


@hookimpl
def iirl_refiners() -> Iterator[Offer]:
    """Refiners that fade the reward at limits, and refiners that place kernels."""
    yield Offer(
        "envelope",
        "iirl_refiners.fades:Envelope",
        o.EnvelopeOptions,
        "the reward fades to 0 between two support distances",
    )
    yield Offer(
        "norm-mask",
        "iirl_refiners.fades:NormMask",
        o.NormMaskOptions,
        "the reward fades to 0 as the limit of a norm is approached",
    )
    yield Offer(
        "kernel-greedy",
        "iirl_refiners.greedy:KernelGreedy",
        o.KernelGreedyOptions,
        "one Gaussian kernel per flaw, wider farther out (baseline)",
    )
    yield Offer(
        "kernel-lp",
        "iirl_refiners.lp:KernelLp",
        o.KernelLpOptions,
        "local kernels chosen by a linear program under a cap on every known-good state",
    )
