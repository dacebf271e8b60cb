"""Options of the core's own strategies; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

import attrs

from iirl_engine.options import option


@attrs.frozen(kw_only=True)
class NpzOptions:
    """Options of source `npz`."""

    path: str = option(
        path=True,
        help="NumPy file: states [n, d]; optional t, episode, weights [n], negatives [m, d], "
        "negative_weights [m], known_good [k, d], feature_names [d]",
    )


@attrs.frozen(kw_only=True)
class CsvOptions:
    """Options of source `csv`."""

    path: str = option(path=True, help="comma-separated file whose first line names the features")
    t: str | None = option(None, help="name of the column that holds time")
    episode: str | None = option(None, help="name of the column that holds the episode number")


@attrs.frozen(kw_only=True)
class ConstantOptions:
    """Options of schedule `constant`."""

    strength: float = option(1.0, ge=0.0, le=1.0, help="strength at all times")


@attrs.frozen(kw_only=True)
class _DecayOptions:
    start: float = option(1.0, ge=0.0, le=1.0, help="strength at t = 0")
    end: float = option(0.0, ge=0.0, le=1.0, help="strength that it falls to")

    def __attrs_post_init__(self) -> None:
        """Check what concerns both strengths."""
        if self.end > self.start:
            raise ValueError(f"end must not be above start, got {self.end} and {self.start}")


@attrs.frozen(kw_only=True)
class ExponentialOptions(_DecayOptions):
    """Options of schedule `exponential`."""

    half_life: float = option(gt=0.0, help="time in which what is above `end` halves")


@attrs.frozen(kw_only=True)
class LinearDecayOptions(_DecayOptions):
    """Options of schedule `linear`."""

    duration: float = option(gt=0.0, help="time at which `end` is reached")


@attrs.frozen(kw_only=True)
class RegionOptions:
    """Options of schedule `region`."""

    norm: str = option(help="id of the norm that bounds the region")
    inside: float = option(1.0, ge=0.0, le=1.0, help="strength where the norm is kept")
    outside: float = option(0.0, ge=0.0, le=1.0, help="strength where the norm is violated")


@attrs.frozen(kw_only=True)
class SupportOptions:
    """Options of norm `support`."""

    boundary: float | Literal["auto"] = option(
        "auto",
        gt=0.0,
        help="farthest allowed Euclidean distance to an expert state; auto: twice the 99 % "
        "quantile of the distance from each to the next one",
    )


@attrs.frozen(kw_only=True)
class BoxOptions:
    """Options of norm `box`."""

    features: tuple[str, ...] = option(help="names of the features that the box limits")
    low: tuple[float, ...] = option(help="lowest value, one per feature")
    high: tuple[float, ...] = option(help="highest value, one per feature")
    forbid: bool = option(
        False, help="true: states inside the box are forbidden; false: states outside it"
    )

    def __attrs_post_init__(self) -> None:
        """Check what concerns more than one option."""
        if not len(self.features) == len(self.low) == len(self.high) > 0:
            raise ValueError(
                f"features, low and high must have the same length, got {len(self.features)}, "
                f"{len(self.low)} and {len(self.high)}"
            )
        if len(set(self.features)) < len(self.features):
            raise ValueError("features must differ")
        for name, low, high in zip(self.features, self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(f"low must be below high for {name!r}, got {low} and {high}")


@attrs.frozen(kw_only=True)
class LinearOptions:
    """Options of norm `linear`."""

    a: tuple[float, ...] = option(help="one coefficient per feature; not all 0")
    b: float = option(help="states with a.s > b are forbidden")

    def __attrs_post_init__(self) -> None:
        """Check what one limit cannot say."""
        if not any(self.a):
            raise ValueError("a must have a coefficient that is not 0")


@attrs.frozen(kw_only=True)
class KnownGoodOptions:
    """Options of gate `known-good`."""

    max_loss: float = option(
        0.10, ge=0.0, le=1.0, help="reward that a known-good state may lose, over all releases"
    )


@attrs.frozen(kw_only=True)
class ClosureOptions:
    """Options of gate `closure`."""

    share: float = option(
        0.9, ge=0.0, le=1.0, help="share of the open flaws that a candidate must close"
    )
    held_out_share: float = option(
        0.5,
        ge=0.0,
        le=1.0,
        help="share that it must close of the flaws of the same regions that no refiner was shown",
    )


@attrs.frozen(kw_only=True)
class CollateralOptions:
    """Options of gate `collateral`."""

    states: int = option(8192, ge=2, help="states that are drawn")
    max_near: float = option(
        0.25, ge=0.0, le=1.0, help="mean change since release 0 of allowed states near a flaw"
    )
    max_far: float = option(
        0.02,
        ge=0.0,
        le=1.0,
        help="mean change since release 0 of allowed states far from flaws",
    )


@attrs.frozen(kw_only=True)
class LocalRedTeamOptions:
    """Options of gate `local-red-team`."""

    budget: int = option(20_000, ge=1, help="reward queries per candidate")
    starts: int = option(4, ge=1, help="searches around each correction and closed flaw, at most")
    steps: int = option(8, ge=1, help="gradient steps of a search")
    max_rate: float = option(
        0.02, ge=0.0, le=1.0, help="share of the searches that may come upon a flaw"
    )


@attrs.frozen(kw_only=True)
class OrderingOptions:
    """Options of gate `ordering`."""

    path: str = option(
        path=True,
        help="folder with one .npz file per graded policy, or one file of graded episodes: states "
        "[n, d], ep_len [e], ep_ret [e]",
    )
    max_drop: float = option(
        0.02, ge=0.0, le=2.0, help="what Spearman's rank correlation may fall since release 0"
    )


@attrs.frozen(kw_only=True)
class TrainableOptions:
    """Options of gate `trainable`."""

    max_rise: float = option(
        0.05,
        ge=0.0,
        le=1.0,
        help="what the share of flat places, and of places not uphill, may rise since release 0",
    )


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """Options of gate `budget`."""

    max_corrections: int = option(5000, ge=0, help="corrections in all releases together")
    max_ratio: float = option(
        100.0, ge=1.0, help="cost of a reward, as a multiple of its cost without corrections"
    )


@attrs.frozen(kw_only=True)
class HtmlOptions:
    """Options of reporter `html`."""

    features: tuple[str, ...] | None = option(
        None, help="two or three features to draw; by default those that vary most"
    )
    flaws: int = option(20, ge=0, help="flaws listed in the report")
