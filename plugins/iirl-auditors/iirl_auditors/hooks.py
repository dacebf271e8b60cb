"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_auditors import options as o
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_auditors() -> Iterator[Offer]:
    """One auditor of each family."""
    yield Offer(
        "sobol",
        "iirl_auditors.sobol:Sobol",
        o.SobolOptions,
        "out-of-distribution: space-filling probes of the domain",
    )
    yield Offer(
        "ray",
        "iirl_auditors.ray:Ray",
        o.RayOptions,
        "gradient-extrapolation: rays from expert states out of the support",
    )
    yield Offer(
        "pgd",
        "iirl_auditors.pgd:Pgd",
        o.PgdOptions,
        "adversarial: projected gradient ascent on the reward where norms forbid",
    )
