"""Options of the adversarial auditors; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class PgdOptions:
    """Options of auditor `pgd`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(40, ge=1, help="gradient steps per search")
    step_size: float = option(
        0.025, gt=0.0, le=1.0, help="first step, as a share of the domain's width"
    )
    linger: int = option(8, ge=0, help="steps that a search goes on after its first flaw")
    rule: Literal["adam", "l2", "linf"] = option("adam", help="how a gradient becomes a step")


@attrs.frozen(kw_only=True)
class LbfgsOptions:
    """Options of auditor `lbfgs`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(20, ge=1, help="steps per search")
    memory: int = option(6, ge=1, help="steps that the curvature is told from")


@attrs.frozen(kw_only=True)
class CmaEsOptions:
    """Options of auditor `cma-es`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    generations: int = option(60, ge=1, help="generations per search, at most")
    sigma: float = option(0.1, gt=0.0, le=1.0, help="first spread, as a share of the domain")


@attrs.frozen(kw_only=True)
class ArchiveOptions:
    """Options of auditor `archive`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    distances: int = option(8, ge=1, help="bins of the violation, on a logarithmic scale")
    directions: int = option(24, ge=1, help="random directions from the middle of the support")


@attrs.frozen(kw_only=True)
class TrivialOptions:
    """Options of auditor `trivial`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    share: float = option(
        0.7,
        gt=0.0,
        help="share of the demonstrations' reward from which on earning it is a concern",
    )
    segment: int = option(32, ge=1, help="successive states that are replayed")
    gain: float = option(
        1.5, gt=1.0, help="times the demonstrations' reward that make a replay a concern"
    )


@attrs.frozen(kw_only=True)
class TamperOptions:
    """Options of auditor `tamper`."""

    budget: int = option(1, ge=1, help="reward queries per round; it needs one")
