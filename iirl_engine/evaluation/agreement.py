"""How far two columns of numbers agree: AUROC, rank correlation, Pearson distance.

Each answers None where it is undefined, such as for a column that is the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

# A column whose range is below this share of its size differs by rounding alone.
_ROUNDING = 1e-12


def auroc(positives: Any, negatives: Any) -> float | None:
    """Return the area under the receiver operating characteristic.

    The probability that a positive scores above a negative, ties counted half: 0.5 for a score
    that cannot tell them apart, 1 for one that always can.

    Parameters
    ----------
    positives, negatives
        `[n]` and `[m]` scores.

    Returns
    -------
    0 to 1; None when either is empty.
    """
    above, below = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if not len(above) or not len(below):
        return None
    ranks = stats.rankdata(np.concatenate([above, below]))[: len(above)]
    # Mann-Whitney U over the number of pairs.
    return float((ranks.mean() - (len(above) + 1) / 2) / len(below))


def spearman(first: Any, second: Any) -> float | None:
    """Return Spearman's rank correlation of two columns `[n]`, -1 to 1.

    None with fewer than two numbers, or when either column is the same everywhere.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if is_constant(a) or is_constant(b):
        return None
    return float(stats.spearmanr(a, b).statistic)


def pearson_distance(first: Any, second: Any, *, weights: Any = None) -> float | None:
    """Return the Pearson distance sqrt((1 - r) / 2) of two columns `[n]`.

    Parameters
    ----------
    first, second
        `[n]`.
    weights
        `[n]` > 0, how much each row counts; all alike by default.

    Returns
    -------
    0 for columns that rise together linearly, sqrt(1/2) for unrelated ones, 1 for opposite ones;
    None with fewer than two numbers, or when either column is the same everywhere.

    References
    ----------
    Gleave et al., "Quantifying Differences in Reward Functions", ICLR 2021 (arXiv 2006.13900),
    section 4. r is Pearson's correlation.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if is_constant(a) or is_constant(b):
        return None
    w = np.ones(len(a)) if weights is None else np.asarray(weights, np.float64)
    # The same as sqrt((1 - r) / 2), without the cancellation in 1 - r.
    return float(np.linalg.norm(_standard(a, w) - _standard(b, w)) / 2)


def is_constant(values: Array) -> bool:
    """Return whether a column has no two numbers that differ by more than rounding."""
    return len(values) < 2 or bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def _standard(values: Array, weights: Array) -> Array:
    """Return a column centred and scaled to weighted length 1."""
    scaled = values / np.abs(values).max()
    centred = np.sqrt(weights) * (scaled - np.average(scaled, weights=weights))
    return np.asarray(centred / np.linalg.norm(centred))
