"""Options of the encoders and mappings; imports nothing heavy."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import attrs

from iirl_engine import option

_STANDARDIZE = (
    "scale features to mean 0 and standard deviation 1; auto: unless their standard deviations "
    "lie within a factor of 10 of each other and of 1, as features of one unit do"
)


@attrs.frozen(kw_only=True)
class MoeAutoencoderOptions:
    """Options of encoder `moe-autoencoder`."""

    experts: int = option(3, ge=1, help="autoencoders in the mixture")
    bottleneck: int | Literal["auto"] = option(
        "auto", ge=1, help="hidden units of each; auto: half the features, rounded up"
    )
    standardize: bool | Literal["auto"] = option("auto", help=_STANDARDIZE)
    steps: int = option(2000, ge=1, help="Adam steps")
    batch: int = option(256, ge=1, help="states per step")
    learning_rate: float = option(0.01, gt=0.0, help="Adam step size")
    weights: str | None = option(
        None,
        path=True,
        help="NumPy .npz of a trained mixture to audit, instead of training one: "
        "experts.K.{encoder,decoder}.0.{weight,bias}, gating_network.fc.{weight,bias}",
    )


@attrs.frozen(kw_only=True)
class KnnOptions:
    """Options of encoder `knn`."""

    k: int = option(5, ge=1, help="neighbours; at most the number of expert states is used")
    standardize: bool | Literal["auto"] = option("auto", help=_STANDARDIZE)


@attrs.frozen(kw_only=True)
class EnergyOptions:
    """Options of encoder `energy`."""

    members: int = option(3, ge=1, help="networks; their disagreement is the uncertainty")
    hidden: int = option(32, ge=1, help="units in each of the two hidden layers")
    smoothness: float = option(
        0.05,
        ge=0.0,
        help="weight, per feature, of the squared gradient between experts and negatives",
    )
    implicit: float = option(
        0.1, ge=0.0, help="weight of implicit negatives beside given ones, which weigh 1"
    )
    steps: int = option(600, ge=1, help="Adam steps")
    batch: int = option(128, ge=1, help="expert states, and as many negatives, per step")
    learning_rate: float = option(0.003, gt=0.0, help="Adam step size")


@attrs.frozen(kw_only=True)
class RndOptions:
    """Options of encoder `rnd`."""

    members: int = option(3, ge=1, help="pairs of networks; their disagreement is the uncertainty")
    hidden: int = option(64, ge=1, help="units in each hidden layer")
    outputs: int = option(16, ge=1, help="numbers to predict")
    steps: int = option(1000, ge=1, help="Adam steps")
    batch: int = option(256, ge=1, help="states per step")
    learning_rate: float = option(0.003, gt=0.0, help="Adam step size")


@attrs.frozen(kw_only=True)
class FlowOptions:
    """Options of encoder `flow`."""

    transforms: int = option(3, ge=1, help="transformations in sequence")
    hidden: int = option(64, ge=1, help="units in each of the two hidden layers")
    noise: float = option(
        0.05,
        ge=0.0,
        help="standard deviation of Gaussian noise on standardised training states; keeps the "
        "likelihood bounded where demonstrations lie on a surface",
    )
    steps: int = option(500, ge=1, help="Adam steps")
    batch: int = option(256, ge=1, help="states per step")
    learning_rate: float = option(0.01, gt=0.0, help="Adam step size")


@attrs.frozen(kw_only=True)
class KernelMeanOptions:
    """Options of encoder `kernel-mean`."""

    widths: tuple[float, ...] = option(
        (0.5,),
        ge=1e-3,
        le=1e3,
        help="kernel widths, as shares of the median distance between expert states",
    )
    select: Literal["all", "held-out"] = option(
        "all",
        help="all: every width counts the same; held-out: the one width under which "
        "held-out expert states are likeliest",
    )
    centers: int = option(
        5000, ge=1, help="expert states that kernels are centred on, at most; drawn at random"
    )
    features: int = option(
        0,
        ge=0,
        le=2**20,
        help="random Fourier frequencies to estimate the kernel mean with; 0: exact. The error, "
        "about 1 / sqrt(2 x features), also endorses states far from every expert",
    )
    standardize: bool = option(True, help="scale features to mean 0 and standard deviation 1")

    def __attrs_post_init__(self) -> None:
        """Check what no limit of a number can say."""
        _check_some(self.widths)
        if 0 < self.features < len(self.widths):
            raise ValueError("features must be 0 or at least one for each of the widths")


@attrs.frozen(kw_only=True)
class MmdWitnessOptions:
    """Options of encoder `mmd-witness`."""

    widths: tuple[float, ...] = option(
        (1.4,),
        ge=1e-3,
        le=1e3,
        help="the witness's kernel widths, as shares of the median distance between states; the "
        "kernel is the mean of theirs",
    )
    support_width: float = option(
        0.35, ge=1e-3, le=1e3, help="the same for the kernel that tells where there are data"
    )
    background: float = option(
        1e-4,
        gt=0.0,
        help="density at which the reward is halved, relative to that of the sparsest 1 % of the "
        "data; more is stricter",
    )
    centers: int = option(
        5000, ge=1, help="states of each class that kernels are centred on, at most; drawn"
    )
    standardize: bool = option(
        True, help="scale features by their standard deviation within experts and negatives"
    )

    def __attrs_post_init__(self) -> None:
        """Check what no limit of a number can say."""
        _check_some(self.widths)


def _check_some(widths: tuple[float, ...]) -> None:
    if not widths:
        raise ValueError("widths must have at least one number")


@attrs.frozen(kw_only=True)
class ExpOptions:
    """Options of mapping `exp`."""

    steepness: float = option(1.0, gt=0.0, help="k: how fast the reward falls with the loss")
    l_min: float | Literal["auto"] = option(
        "auto", ge=0.0, help="loss up to which the reward is 1; auto: the least of the experts"
    )
    l_max: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        help="loss at which the reward is exp(-steepness); auto: 99 % quantile of the experts",
    )

    def __attrs_post_init__(self) -> None:
        """Check what concerns both limits."""
        if self.l_min != "auto" and self.l_max != "auto" and not self.l_min < self.l_max:
            raise ValueError(f"l_min must be below l_max, got {self.l_min} and {self.l_max}")


@attrs.frozen(kw_only=True)
class LinearOptions:
    """Options of mapping `linear`."""

    cap: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        help="loss from which the reward is 0; auto: three times the experts' 99 % quantile",
    )


@attrs.frozen(kw_only=True)
class SigmoidOptions:
    """Options of mapping `sigmoid`."""

    middle: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        le=1e300,
        help="loss at which the slope is steepest; auto: 1.5 times the experts' 99 % quantile",
    )
    width: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        help="loss over which the odds of the reward fall by a factor of e; auto: middle / 6",
    )


@attrs.frozen(kw_only=True)
class IsotonicOptions:
    """Options of mapping `isotonic`."""

    knots: tuple[float, ...] | Literal["auto"] = option(
        "auto",
        ge=0.0,
        le=1e300,
        help="losses between which the reward is interpolated, rising; auto: 0, deciles and 99 % "
        "quantile of the experts, three times the latter",
    )
    values: tuple[float, ...] | Literal["auto"] = option(
        "auto",
        ge=0.0,
        le=1.0,
        help="reward at each knot, never rising; behind the last it falls to 0 over as much loss "
        "again; auto: as with mapping linear",
    )

    def __attrs_post_init__(self) -> None:
        """Check what concerns more than one number."""
        if self.knots != "auto" and not (
            self.knots and self.knots[-1] > 0 and all(a < b for a, b in pairwise(self.knots))
        ):
            raise ValueError(f"knots must rise, to one above 0, got {self.knots}")
        if self.values == "auto":
            return
        if self.knots == "auto" or len(self.knots) != len(self.values):
            raise ValueError("values needs as many knots")
        if any(a < b for a, b in pairwise(self.values)):
            raise ValueError(f"values must never rise, got {self.values}")
