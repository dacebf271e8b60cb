"""Options of the refiners; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

import attrs

from iirl_engine import option

_MAX_LOSS = "reward that a known-good state may lose, over all releases"


@attrs.frozen(kw_only=True)
class EnvelopeOptions:
    """Options of refiner `envelope`."""

    inner: float | Literal["auto"] = option(
        "auto",
        ge=0.0,
        help="support distance up to which the reward stays; auto: as small as max_loss allows, "
        "but not below 0.8 of outer",
    )
    outer: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        help="support distance from which the reward is 0; auto: the norm's boundary",
    )
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)
    norm: str = option("support", help="id of the norm that measures support distance")

    def __attrs_post_init__(self) -> None:
        """Check what concerns both distances."""
        if self.inner != "auto" and self.outer != "auto" and not self.inner < self.outer:
            raise ValueError(f"inner must be below outer, got {self.inner} and {self.outer}")


@attrs.frozen(kw_only=True)
class NormMaskOptions:
    """Options of refiner `norm-mask`."""

    norms: tuple[str, ...] | None = option(
        None, help="ids of the norms to enforce; by default every norm of the chain"
    )
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)


@attrs.frozen(kw_only=True)
class KernelGreedyOptions:
    """Options of refiner `kernel-greedy`."""

    max_corrections: int = option(200, ge=1, help="kernels per round")
    min_bandwidth: float = option(0.03, gt=0.0, help="narrowest kernel, in units of the states")
    max_bandwidth: float = option(0.30, gt=0.0, help="widest kernel, in units of the states")
    max_loss: float = option(
        0.10, gt=0.0, lt=1.0, help="suppression of a known-good state by the kernels of one round"
    )


@attrs.frozen(kw_only=True)
class KernelLpOptions:
    """Options of refiner `kernel-lp`."""

    max_corrections: int = option(2000, ge=1, help="kernels per round")
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)


@attrs.frozen(kw_only=True)
class HalfspacesOptions:
    """Options of refiner `halfspaces`."""

    min_flaws: int = option(3, ge=1, help="flaws that a plane has to cut off to be worth it")
    max_corrections: int = option(50, ge=1, help="planes per round")
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)


@attrs.frozen(kw_only=True)
class EnclosingBallsOptions:
    """Options of refiner `enclosing-balls`."""

    max_corrections: int = option(500, ge=1, help="balls per round, the largest first")
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)


@attrs.frozen(kw_only=True)
class MergeOptions:
    """Options of refiner `merge`."""

    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)
    tolerance: float = option(
        0.001,
        ge=0.0,
        le=1.0,
        help="share of fresh flawed states, silent before, that may open; closed flaws never do",
    )


@attrs.frozen(kw_only=True)
class SculptOptions:
    """Options of refiner `sculpt`."""

    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)
    regions: int = option(
        32, ge=0, help="balls in which the mapping is sculpted by itself; 0: only everywhere"
    )


@attrs.frozen(kw_only=True)
class ContrastOptions:
    """Options of refiner `contrast`."""

    share: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        lt=1.0,
        help="share of all negatives' weight that the flaws get; auto: the least of 0.1 to 0.9 "
        "that closes most",
    )
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)


@attrs.frozen(kw_only=True)
class UnlearnOptions:
    """Options of refiner `unlearn`."""

    rows: tuple[int, ...] | None = option(
        None, help="rows of the demonstrations to forget; by default those behind open flaws"
    )
    episodes: tuple[int, ...] | None = option(
        None, help="episodes of the demonstrations to forget, besides the rows"
    )
    most: float = option(
        0.05, gt=0.0, lt=1.0, help="share of the demonstrations that may be forgotten unasked"
    )
    refit: bool = option(
        False, help="fit anew on the rest where the encoder cannot unlearn exactly"
    )
    max_loss: float = option(0.10, ge=0.0, le=1.0, help=_MAX_LOSS)
