"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_auditors() -> Iterator[Offer]:
    """Auditors of every family."""
    yield from _out_of_distribution()
    yield from _gradient_extrapolation()
    yield from _adversarial()
    yield from _blue_team()


def _out_of_distribution() -> Iterator[Offer]:
    package = "iirl_auditors.out_of_distribution"
    yield Offer(
        "sobol",
        f"{package}.sobol:Sobol",
        f"{package}.options:SobolOptions",
        "out-of-distribution: space-filling probes of the domain",
    )


def _gradient_extrapolation() -> Iterator[Offer]:
    package = "iirl_auditors.gradient_extrapolation"
    yield Offer(
        "ray",
        f"{package}.ray:Ray",
        f"{package}.options:RayOptions",
        "gradient-extrapolation: rays from expert states out of the support",
    )
    yield Offer(
        "gradient-flow",
        f"{package}.gradient_flow:GradientFlow",
        f"{package}.options:GradientFlowOptions",
        "gradient-extrapolation: along the reward's ridges out of the support",
    )
    yield Offer(
        "lipschitz",
        f"{package}.lipschitz:Lipschitz",
        f"{package}.options:LipschitzOptions",
        "gradient-extrapolation: where the reward changes faster than among demonstrations",
    )
    yield Offer(
        "saturation",
        f"{package}.saturation:Saturation",
        f"{package}.options:SaturationOptions",
        "gradient-extrapolation: plateaus on the way to the demonstrations",
    )
    yield Offer(
        "monotone-escape",
        f"{package}.monotone_escape:MonotoneEscape",
        f"{package}.options:MonotoneEscapeOptions",
        "gradient-extrapolation: ways out of the support along which the reward does not fall",
    )


def _adversarial() -> Iterator[Offer]:
    package = "iirl_auditors.adversarial"
    yield Offer(
        "pgd",
        f"{package}.pgd:Pgd",
        f"{package}.options:PgdOptions",
        "adversarial: projected gradient ascent on the reward where norms forbid",
    )
    yield Offer(
        "trivial",
        f"{package}.trivial:Trivial",
        f"{package}.options:TrivialOptions",
        "adversarial: what standing still, frozen and permuted features and replays earn",
    )


def _blue_team() -> Iterator[Offer]:
    package = "iirl_auditors.blue_team"
    yield Offer(
        "coverage",
        f"{package}.coverage:Coverage",
        f"{package}.options:CoverageOptions",
        "blue team: one budget for several auditors, where least is known",
    )
