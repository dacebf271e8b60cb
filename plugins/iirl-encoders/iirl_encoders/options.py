"""Options of the encoders and mappings; imports nothing heavy."""

from __future__ import annotations

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
