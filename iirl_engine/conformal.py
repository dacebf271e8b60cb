"""How sure is it that a state is unlike the demonstrations? p-values that hold for any score.

A detector scores how unlike the demonstrations a state is; the unit of a score means nothing by
itself. Its rank among the scores of demonstrations that the detector never saw does: that is a
p-value, whatever the detector and whatever the distribution of the demonstrations.

Which function is right depends on how a state came about.

- *Proposed*: chosen without looking at its score or at the calibration scores. `p_values`, and
  `discoveries` over everything that was proposed.
- *Best of a search* that looked at states settled beforehand, such as points on a ray:
  `best_of_p_values`. Ordinary p-values are invalid, for the best of many is extreme by selection.
- *An adaptive search*, where each state looked at depends on the scores before it: no count of
  states makes up for that. Run the same search among held-out demonstrations as often as possible,
  and give `p_values` the best score of each of these runs as the calibration.

References
----------
- Vovk, Gammerman & Shafer. Algorithmic Learning in a Random World. Springer, 2005.
- Bates, Candès, Lei, Romano & Sesia. Testing for outliers with conformal p-values. Annals of
  Statistics 51, 2023. https://arxiv.org/abs/2104.08279
- Benjamini & Hochberg. Controlling the false discovery rate. JRSS B 57, 1995.
- Westfall & Young. Resampling-Based Multiple Testing. Wiley, 1993.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from iirl_engine.records import Demonstrations

Array = NDArray[np.float64]

# The share of the demonstrations that is set aside where none is held out yet.
_SET_ASIDE = 1 / 3
# Rounding must not turn p = level into p > level.
_ROUNDING = 1 + 1e-12


def p_values(calibration: Array, scores: Array) -> Array:
    """Return the split-conformal p-value of each score, in [1 / (n + 1), 1].

        p(s) = (1 + #{i : calibration_i >= s}) / (n + 1)

    When a state is exchangeable with the n calibration states, P(p <= a) <= a for every a.

    Parameters
    ----------
    calibration
        `[n]` scores of demonstrations that neither the detector nor the choice of the states was
        fitted on; the higher, the more unlike. NaN counts as infinitely unlike.
    scores
        `[m]` scores of the states in question; NaN is no evidence, its p-value is 1.

    Examples
    --------
    >>> p_values(np.array([0.1, 0.2, 0.3]), np.array([0.9, 0.2, np.nan]))
    array([0.25, 0.75, 1.  ])
    """
    p = (1.0 + _as_extreme(calibration, scores)) / (len(calibration) + 1.0)
    return np.where(np.isnan(scores), 1.0, p)


def best_of_p_values(calibration: Array, best: Array, looked_at: int) -> Array:
    """Return the p-value of each score that is the best of `looked_at` others, in (0, 1].

    It is the probability that the best of m fresh demonstrations is as extreme among the n
    calibration scores (max-statistic; Westfall & Young 1993). With r = #{calibration >= best} that
    is the probability that not all of the r + 1 most extreme of n + m exchangeable scores belong
    to the calibration:

        p = 1 - prod_{j = 0..r} (n - j) / (n + m - j)

    It equals the ordinary p-value for m = 1, and while it is small it is about m times that: the
    union bound, which states that depend on each other, such as points on one ray, cannot exceed.
    It holds for whichever of the m states is reported, if the m were settled before any was scored.

    Parameters
    ----------
    calibration
        `[n]` as in `p_values`.
    best
        `[k]` the highest score of each search, or a lower one of the same search.
    looked_at
        m >= 1: how many states each search scored.

    Examples
    --------
    >>> best_of_p_values(np.arange(99.0), np.array([200.0]), 1).round(6)
    array([0.01])
    >>> best_of_p_values(np.arange(99.0), np.array([200.0]), 33).round(6)
    array([0.25])
    """
    n, m = len(calibration), looked_at
    j = np.arange(n + 1)
    all_in_calibration = np.cumprod((n - j) / (n + m - j))
    p = 1.0 - all_in_calibration[_as_extreme(calibration, best)]
    return np.where(np.isnan(best), 1.0, p)


def discoveries(p: Array, level: float) -> NDArray[np.bool_]:
    """Return which p-values `[m]` are discoveries at a false discovery rate of `level`.

    The step-up rule of Benjamini & Hochberg (1995): the k smallest, for the largest k with
    p_(k) <= level k / m. On split-conformal p-values of independent states it keeps the expected
    share of demonstration-like states among the discoveries at or below `level`, although the
    p-values share their calibration: they are PRDS (Bates et al. 2023, theorem 2).

    Every state that was looked at belongs into `p`. Those dropped beforehand for their score are
    what the rate would be wrong about.

    Examples
    --------
    >>> discoveries(np.array([0.01, 0.2, 0.02, 0.9]), 0.05)
    array([ True, False,  True, False])
    """
    if len(p) == 0:
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(false_discovery_control(p, method="bh") <= level * _ROUNDING)


def fewest(level: float) -> int:
    """Return how many calibration scores it takes for any p-value to be as small as `level`."""
    return math.ceil(1 / level * (1 - 1e-12)) - 1


@attrs.frozen(eq=False)
class Split:
    """Demonstrations to fit a detector on, and others to calibrate it with.

    Parameters
    ----------
    fit, calibration
        `[k, d]` and `[n, d]` expert states; no state, and no episode, is in both.
    """

    fit: Array
    calibration: Array


def split(demonstrations: Demonstrations, level: float, generator: np.random.Generator) -> Split:
    """Return what a detector may be fitted on, and what its scores are calibrated with.

    The held-out demonstrations calibrate where there are enough of them for `level`. Otherwise a
    third of the expert states does, or as many as `level` takes, but never more than half; whole
    episodes where these are known, because a state's neighbours in time would make it look more
    like the demonstrations than a fresh state does.

    Parameters
    ----------
    demonstrations
        With n >= 1 expert states.
    level
        The smallest p-value that is asked for, in (0, 1).
    generator
        Decides which states are set aside.
    """
    states, needed = demonstrations.states, fewest(level)
    if len(demonstrations.held_out) >= needed:
        return Split(states, demonstrations.held_out)
    wanted = min(max(math.ceil(_SET_ASIDE * len(states)), needed), len(states) // 2)
    aside = np.zeros(len(states), dtype=np.bool_)
    episode = demonstrations.episode
    if episode is None or len(np.unique(episode)) == 1:
        aside[generator.permutation(len(states))[:wanted]] = True
    else:
        names, counts = np.unique(episode, return_counts=True)
        order = generator.permutation(len(names))
        enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
        aside = np.isin(episode, names[order[: min(enough, len(names) - 1)]])
    return Split(states[~aside], states[aside])


def _as_extreme(calibration: Array, scores: Array) -> NDArray[np.int64]:
    """Return how many calibration scores are at least as high as each score, `[m]`."""
    ordered = np.sort(np.where(np.isnan(calibration), np.inf, calibration))
    return np.asarray(len(ordered) - np.searchsorted(ordered, scores, side="left"))
