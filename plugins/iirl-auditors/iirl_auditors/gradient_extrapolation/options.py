"""Options of the gradient-extrapolation auditors; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class RayOptions:
    """Options of auditor `ray`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(32, ge=1, help="probes along each ray")


@attrs.frozen(kw_only=True)
class GradientFlowOptions:
    """Options of auditor `gradient-flow`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(
        32, ge=1, help="steps of each path; together they are as long as the domain is wide"
    )


@attrs.frozen(kw_only=True)
class LipschitzOptions:
    """Options of auditor `lipschitz`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    halvings: int = option(8, ge=1, le=40, help="halvings of each chord")
    factor: float = option(
        3.0, gt=0.0, help="times the steepest slope among the demonstrations that is an anomaly"
    )


@attrs.frozen(kw_only=True)
class SaturationOptions:
    """Options of auditor `saturation`."""

    budget: int = option(2048, ge=1, help="reward queries per round")
    places: int = option(16, ge=1, help="places on each way from start to demonstration")
    share: float = option(
        0.5, gt=0.0, le=1.0, help="share of flat places from which on they are a concern"
    )


@attrs.frozen(kw_only=True)
class MonotoneEscapeOptions:
    """Options of auditor `monotone-escape`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(
        32, ge=2, help="steps of each way out; together they are as long as the domain is wide"
    )
