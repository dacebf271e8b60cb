"""How sure is it that a state is unlike the demonstrations? p-values that hold for any score.

A detector scores how unlike the demonstrations a state is; the unit of a score means nothing by
itself. Its rank among the scores of demonstrations that the detector never saw does: that is a
p-value, whatever the detector and whatever the distribution of the demonstrations.

States of one episode resemble each other, so that a thousand states of one episode are far from a
thousand independent states. Where episodes are known they are what is exchangeable, and a p-value
counts episodes; otherwise it counts states, and holds as far as these are drawn independently.
No way to count does more with few episodes: what is called with probability b where K episodes are
alike and one is odd is called with probability b / (K + 1) where each of the K + 1 may be the odd
one, so that b <= a (K + 1) for any test of level a (docs/how-sure.md).

Which function is right depends on how a state came about.

- *Proposed*: chosen without looking at its score or at the calibration scores. `p_values`, and
  `discoveries` over everything that was proposed.
- *Best of a search* that scored states settled beforehand, such as points on a ray:
  `best_of_p_values`. Ordinary p-values are invalid, for the best of many is extreme by selection.
- *An adaptive search*, where each state looked at depends on the scores before it: a count of
  states promises nothing there. Run the same search among held-out demonstrations as often as
  possible, and give `p_values` the best score of each of these runs as the calibration.

References
----------
- Vovk, Gammerman & Shafer. Algorithmic Learning in a Random World. Springer, 2005.
- Bates, Candès, Lei, Romano & Sesia. Testing for outliers with conformal p-values. Annals of
  Statistics 51, 2023. https://arxiv.org/abs/2104.08279
- Lee, Barber & Willett. Distribution-free inference with hierarchical data. 2023.
  https://arxiv.org/abs/2306.06342
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
Episodes = NDArray[np.int64]

# The share of the demonstrations that is set aside where none is held out yet.
_SET_ASIDE = 1 / 3
# Rounding must not turn p = level into p > level.
_ROUNDING = 1 + 1e-12


def p_values(calibration: Array, scores: Array, episode: Episodes | None = None) -> Array:
    """Return the split-conformal p-value of each score, in [1 / (K + 1), 1].

        p(s) = (1 + sum_k share_k(s)) / (K + 1)

    share_k(s) is the share of calibration episode k with a score of at least s, and K the number of
    episodes. Without episodes every state is one of its own, share_k is 0 or 1, and p the usual
    rank. When the state in question is of an episode that is exchangeable with the K others,
    P(p <= a) <= a for every a (Lee, Barber & Willett 2023).

    Parameters
    ----------
    calibration
        `[n]` scores of demonstrations that neither the detector nor the choice of the states was
        fitted on; the higher, the more unlike. NaN counts as infinitely unlike.
    scores
        `[m]` scores of the states in question; NaN is no evidence, its p-value is 1.
    episode
        `[n]` episode of each calibration score, or None.

    Examples
    --------
    >>> scores = np.array([0.9, 0.2, np.nan])
    >>> p_values(np.array([0.1, 0.2, 0.3]), scores)
    array([0.25, 0.75, 1.  ])
    >>> p_values(np.array([0.1, 0.2, 0.3]), scores, np.array([7, 7, 8]))
    array([0.33333333, 0.83333333, 1.        ])
    """
    count, weight = len(calibration), np.ones(len(calibration))
    if episode is not None:
        _, place, size = np.unique(episode, return_inverse=True, return_counts=True)
        count, weight = len(size), 1.0 / size[place]
    known = np.where(np.isnan(calibration), np.inf, calibration)
    order = np.argsort(known, kind="stable")
    # Weight of all calibration scores from the j-th lowest on, for j = 0..n.
    above = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    p = (1.0 + above[np.searchsorted(known[order], scores, side="left")]) / (count + 1.0)
    return np.where(np.isnan(scores), 1.0, np.minimum(p, 1.0))


def best_of_p_values(p: Array, looked_at: int) -> Array:
    """Return the p-value of a state that was chosen among `looked_at` for its score.

        p_best = min(1, m p)

    The probability that the best of m fresh demonstrations is as extreme is at most that
    (max-statistic; Westfall & Young 1993), however the m depend on each other. It holds for
    whichever of the m is reported, if they were settled before any was scored.

    Parameters
    ----------
    p
        `[k]` ordinary p-values of the chosen states, one of each search.
    looked_at
        m >= 1: how many states each search scored.

    Examples
    --------
    >>> best_of_p_values(np.array([0.001, 0.3]), 8)
    array([0.008, 1.   ])
    """
    return np.minimum(1.0, looked_at * p)


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
    """Return how many calibration units it takes for any p-value to be as small as `level`.

    Units are episodes, or states where episodes are not known.
    """
    return math.ceil(1 / level * (1 - 1e-12)) - 1


@attrs.frozen(eq=False)
class Split:
    """Demonstrations to fit a detector on, and others to calibrate it with.

    Parameters
    ----------
    fit, calibration
        `[k, d]` and `[n, d]` expert states; no state, and no episode, is in both.
    episode
        `[n]` episode of each calibration state; None where states are the units.
    """

    fit: Array
    calibration: Array
    episode: Episodes | None

    @property
    def units(self) -> int:
        """How many episodes, or else states, there are to calibrate with."""
        return len(self.calibration) if self.episode is None else len(np.unique(self.episode))


def split(
    demonstrations: Demonstrations,
    level: float,
    generator: np.random.Generator,
    *,
    by_episode: bool = True,
) -> Split:
    """Return what a detector may be fitted on, and what its scores are calibrated with.

    The held-out demonstrations calibrate. Where there are not enough of them for `level`, expert
    states are set aside as well: until a third calibrates, or as much as `level` takes, but never
    more than half. Whole episodes are set aside where they are known: a state's neighbours in time
    would make it look more like the demonstrations than a fresh state does.

    Parameters
    ----------
    demonstrations
        With n >= 1 expert states.
    level
        The smallest p-value that is asked for, in (0, 1).
    generator
        Decides which states are set aside.
    by_episode
        Whether p-values shall count episodes, where these are known. Otherwise they count states,
        as though the states of an episode were independent.
    """
    states, episode = demonstrations.states, demonstrations.episode
    held_out, held_episode = demonstrations.held_out, demonstrations.held_out_episode
    if not by_episode or episode is None:
        held_episode = None
    elif held_episode is None:  # of unknown episodes, which might be those of other states
        held_out, held_episode = held_out[:0], episode[:0]
    held = len(held_out if held_episode is None else np.unique(held_episode))
    needed = fewest(level)
    if held >= needed:
        return Split(states, held_out, held_episode)
    if episode is None or (not by_episode and len(np.unique(episode)) == 1):
        groups = np.arange(len(states))
    else:
        groups = episode
    names = generator.permutation(np.unique(groups))
    wanted = max(math.ceil(_SET_ASIDE * len(names)), needed) - held
    aside = np.isin(groups, names[: max(0, min(wanted, len(names) // 2))])
    return Split(
        states[~aside],
        np.concatenate([held_out, states[aside]]),
        None
        if held_episode is None or episode is None
        else np.concatenate([held_episode, episode[aside]]),
    )
