"""How every detector audits: propose, score, calibrate, and ask the reward about what is left."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_auditors.out_of_distribution.candidates import propose, rays
from iirl_auditors.out_of_distribution.options import DetectorOptions
from iirl_auditors.out_of_distribution.units import Units
from iirl_engine import Auditor, Context, Suspects
from iirl_engine.conformal import Split, best_of_p_values, discoveries, fewest, p_values, split
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
O = TypeVar("O", bound=DetectorOptions)

# States that a detector is fitted on, and calibrated with, at most.
_FITTED, _CALIBRATION = 10_000, 5_000
# Proposals per reward query: those that are like the demonstrations or allowed cost none.
_PROPOSALS = 2
# As much calibrates as it takes for discoveries where one in so many proposals is beyond all of it.
# With recorded data about a quarter is.
STRANGE = 4
# One ray per so many reward queries, and states looked at on each.
_QUERIES, _LOOKS = 8, 8
_BATCH = 1024


class Detecting(Auditor[O]):
    """Spends its queries on states that a detector calls out-of-distribution, and a norm forbids.

    A third of the demonstrations, or those held out, are kept from the detector; their scores turn
    its scores into split-conformal p-values (`iirl_engine.conformal`). Two batches are judged,
    each at the false discovery rate `fdr`:

    - states *proposed* without a look at any score (`candidates.propose`), by their p-values;
    - states *searched* on rays (`candidates.rays`): of the states scored on a ray, settled
      beforehand, the nearest that is far enough out stands for it. It was chosen for its score, and
      its p-value is that of the best of all on the ray.

    Where nothing can be called out-of-distribution at that rate, as with too few episodes to
    calibrate with, the queries go to what would be, were states independent; or else to all
    proposals that a norm forbids. The evidence says so.
    """

    family: Family = "out-of-distribution"

    @abc.abstractmethod
    def detector(self, states: Array, seed: int) -> Score:
        """Fit on `states [n, d]`, n >= 1 and standardised; return a function `[m, d] -> [m]`.

        It answers how unlike the fitted states others are: the higher, the more unlike.
        """

    def audit(self, target: Target, context: Context) -> Iterator[Suspects]:
        rng, fdr = context.generator(), self.options.fdr
        halves = split(
            target.demonstrations, fdr / STRANGE, rng, by_episode=self.options.by_episode
        )
        expert = halves.fit[_some(len(halves.fit), _FITTED, rng)]
        units = Units.of(expert, target.low.numpy(), target.high.numpy())
        inside = units(expert), units(units.low), units(units.high)
        score = self.detector(inside[0], int(rng.integers(2**31)))
        calibrated = Calibrated.on(
            halves, _some(len(halves.calibration), _CALIBRATION, rng), units, score
        )

        if calibrated.units >= fewest(fdr / 2 / _LOOKS):
            searched = rays(*inside, target.budget // _QUERIES, _LOOKS, rng)
            states, p = nearest_out(units.back(searched), calibrated, fdr)
            called = discoveries(p, fdr)
            by = f"{calibrated}, best of {_LOOKS}, FDR {fdr:g}"
            yield from _ask(target, states[called], p[called], by)
        states = units.back(propose(*inside, _PROPOSALS * target.budget, rng))
        called, p, by = worth_asking(states, calibrated, fdr)
        yield from _ask(target, states[called], p[called], by)


@attrs.frozen(eq=False)
class Calibrated:
    """A fitted detector, and its scores of demonstrations that it never saw.

    Parameters
    ----------
    detector
        Scores states `[m, d]` in their own units.
    scores
        `[n]` of the calibration states.
    episode
        `[n]` their episodes; None where states are counted.
    """

    detector: Score
    scores: Array
    episode: NDArray[np.int64] | None

    @classmethod
    def on(
        cls, halves: Split, rows: NDArray[np.int64], standard: Units, score: Score
    ) -> Calibrated:
        """Calibrate on some rows of what a split set aside."""
        return cls(
            lambda states: score(standard(states)),
            score(standard(halves.calibration[rows])) if len(rows) else np.empty(0),
            None if halves.episode is None else halves.episode[rows],
        )

    @property
    def units(self) -> int:
        """How many episodes, or else states, the p-values count."""
        return len(self.scores if self.episode is None else np.unique(self.episode))

    def p_values(self, states: Array) -> tuple[Array, Array]:
        """Return the p-values of states `[m, d]`: as they hold, and were states independent."""
        scores = self.detector(states)
        return p_values(self.scores, scores, self.episode), p_values(self.scores, scores)

    def __str__(self) -> str:
        return (
            f"split-conformal over {self.units:,} "
            f"{'states' if self.episode is None else 'episodes'}"
        )


def worth_asking(
    states: Array, calibrated: Calibrated, level: float
) -> tuple[NDArray[np.bool_], Array, str]:
    """Return which of the proposed states `[m, d]` to ask about, all p-values, and the method."""
    p, independent = calibrated.p_values(states)
    called = discoveries(p, level)
    if called.any():
        return called, p, f"{calibrated}, FDR {level:g}"
    called = discoveries(independent, level)
    told = f"{calibrated}, none at FDR {level:g}"
    if calibrated.units < fewest(level):
        told += f", which takes {fewest(level):,} or more"
    # Asking nothing would be no audit.
    return called | ~called.any(), p, told


def nearest_out(searched: Array, calibrated: Calibrated, level: float) -> tuple[Array, Array]:
    """Return of each ray the nearest state out of the distribution, and its p-value.

    The nearest with p <= level / 2 as the best of all on its ray, else the one with the smallest p.

    Parameters
    ----------
    searched
        `[k, looks, d]` states on k rays, nearest first.

    Returns
    -------
    states
        `[k, d]`.
    p_values
        `[k]` by `best_of_p_values`.
    """
    count, looks, width = searched.shape
    if count == 0:
        return np.empty((0, width)), np.empty(0)
    ordinary, _ = calibrated.p_values(searched.reshape(-1, width))
    p = best_of_p_values(ordinary, looks).reshape(count, looks)
    out = p <= level / 2
    place = np.where(out.any(axis=1), out.argmax(axis=1), p.argmin(axis=1))
    row = np.arange(count)
    return searched[row, place], p[row, place]


def _ask(target: Target, states: Array, p: Array, method: str) -> Iterator[Suspects]:
    """Yield the states that a norm forbids and the reward endorses, while queries are left."""
    asked = torch.from_numpy(states)
    forbidden = (target.violation(asked) > 0).nonzero()[:, 0] if len(p) else torch.empty(0)
    for rows in forbidden[: target.remaining].to(torch.int64).split(_BATCH):
        endorsed = rows[target.reward(asked[rows]) > target.floor]
        if len(endorsed):
            yield Suspects(asked[endorsed], p[endorsed.numpy()], method)


def _some(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all row numbers below `count`, or `most` of them at random, in order."""
    return np.arange(count) if count <= most else np.sort(rng.permutation(count)[:most])
