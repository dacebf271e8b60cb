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
    yield from _structure_aware()
    yield from _blue_team()


def _out_of_distribution() -> Iterator[Offer]:
    package = "iirl_auditors.out_of_distribution"
    yield Offer(
        "sobol",
        f"{package}.sobol:Sobol",
        f"{package}.options:SobolOptions",
        "out-of-distribution: space-filling probes of the domain",
    )
    yield Offer(
        "shell",
        f"{package}.shell:Shell",
        f"{package}.options:ShellOptions",
        "out-of-distribution: probes of the shell just outside the support",
    )
    yield Offer(
        "knn",
        f"{package}.knn:Knn",
        f"{package}.options:KnnOptions",
        "out-of-distribution: far from the nearest expert states",
    )
    yield Offer(
        "lof",
        f"{package}.lof:Lof",
        f"{package}.options:LofOptions",
        "out-of-distribution: in emptier surroundings than expert states nearby",
    )
    yield Offer(
        "gmm",
        f"{package}.gmm:Gmm",
        f"{package}.options:GmmOptions",
        "out-of-distribution: unlikely under a mixture of Gaussians",
    )
    yield Offer(
        "mahalanobis",
        f"{package}.mahalanobis:Mahalanobis",
        f"{package}.options:MahalanobisOptions",
        "out-of-distribution: features that do not vary together as the expert's do",
    )
    yield Offer(
        "isolation-forest",
        f"{package}.isolation_forest:IsolationForest",
        f"{package}.options:IsolationForestOptions",
        "out-of-distribution: parted from expert states by few random cuts",
    )
    yield Offer(
        "flow",
        f"{package}.flow:Flow",
        f"{package}.options:FlowOptions",
        "out-of-distribution: unlikely under a normalizing flow (needs zuko)",
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
        "adversarial: gradient ascent to forbidden reward, from a portfolio of starts",
    )
    yield Offer(
        "lbfgs",
        f"{package}.lbfgs:Lbfgs",
        f"{package}.options:LbfgsOptions",
        "adversarial: quasi-Newton ascent from many starts at once",
    )
    yield Offer(
        "cma-es",
        f"{package}.cma_es:CmaEs",
        f"{package}.options:CmaEsOptions",
        "adversarial: evolution strategy, for rewards without a useful gradient",
    )
    yield Offer(
        "archive",
        f"{package}.archive:Archive",
        f"{package}.options:ArchiveOptions",
        "adversarial: the best state of every distance and direction",
    )
    yield Offer(
        "trivial",
        f"{package}.trivial:Trivial",
        f"{package}.options:TrivialOptions",
        "adversarial: what standing still, frozen and permuted features and replays earn",
    )
    yield Offer(
        "tamper",
        f"{package}.tamper:Tamper",
        f"{package}.options:TamperOptions",
        "adversarial: weights and corrections that no release explains",
    )


def _blue_team() -> Iterator[Offer]:
    package = "iirl_auditors.blue_team"
    yield Offer(
        "coverage",
        f"{package}.coverage:Coverage",
        f"{package}.options:CoverageOptions",
        "blue team: one budget for several auditors, where least is known",
    )


def _structure_aware() -> Iterator[Offer]:
    package = "iirl_auditors.structure_aware"
    yield Offer(
        "fixed-point",
        f"{package}.fixed_point:FixedPoint",
        f"{package}.options:FixedPointOptions",
        "structure-aware: states that an autoencoder maps to themselves, and their valleys",
    )
    yield Offer(
        "preimage",
        f"{package}.preimage:Preimage",
        f"{package}.options:PreimageOptions",
        "structure-aware: states that an autoencoder gets right; does nothing in up to 4 features",
    )
    yield Offer(
        "decoder-image",
        f"{package}.decoder_image:DecoderImage",
        f"{package}.options:DecoderImageOptions",
        "structure-aware: the decoders' image off the support; does nothing in up to 4 features",
    )
    yield Offer(
        "correction-probe",
        f"{package}.correction_probe:CorrectionProbe",
        f"{package}.options:CorrectionProbeOptions",
        "structure-aware: centres, seams and rims of the reward's corrections",
    )
