"""Options of the out-of-distribution auditors; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class SobolOptions:
    """Options of auditor `sobol`."""

    budget: int = option(8192, ge=1, help="reward queries per round")


@attrs.frozen(kw_only=True)
class ShellOptions:
    """Options of auditor `shell`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    thickness: float = option(1.0, gt=0.0, help="thickness of the shell, in scales")
    features: int = option(4, ge=1, help="in more features than these it asks 16 queries at most")


@attrs.frozen(kw_only=True)
class DetectorOptions:
    """Options of every auditor that asks a detector first."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    fdr: float = option(
        0.05,
        gt=0.0,
        lt=1.0,
        help="false discovery rate: expected share of states like the demonstrations among those "
        "called out-of-distribution",
    )
    by_episode: bool = option(
        True,
        help="p-values count episodes where these are known, and it takes many; false counts "
        "states, as though those of an episode were independent",
    )


@attrs.frozen(kw_only=True)
class KnnOptions(DetectorOptions):
    """Options of auditor `knn`."""

    neighbours: int = option(5, ge=1, help="expert states whose mean distance is the score")


@attrs.frozen(kw_only=True)
class LofOptions(DetectorOptions):
    """Options of auditor `lof`."""

    neighbours: int = option(20, ge=1, help="expert states that make up a neighbourhood")


@attrs.frozen(kw_only=True)
class GmmOptions(DetectorOptions):
    """Options of auditor `gmm`."""

    components: int = option(10, ge=1, help="Gaussians of the mixture; fewer for few states")


@attrs.frozen(kw_only=True)
class MahalanobisOptions(DetectorOptions):
    """Options of auditor `mahalanobis`."""


@attrs.frozen(kw_only=True)
class IsolationForestOptions(DetectorOptions):
    """Options of auditor `isolation-forest`."""

    trees: int = option(100, ge=1, help="trees of the forest")


@attrs.frozen(kw_only=True)
class FlowOptions(DetectorOptions):
    """Options of auditor `flow`."""

    transforms: int = option(2, ge=1, help="autoregressive transforms in a row")
    hidden: int = option(64, ge=1, help="width of the two hidden layers of each")
    steps: int = option(500, ge=1, help="steps of Adam")
