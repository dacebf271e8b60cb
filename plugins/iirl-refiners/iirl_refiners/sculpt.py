"""Sculpting the mapping: a monotone function of the base reward, fitted to verdicts by programs.

A monotone function never turns round what the encoder ranks, so it closes a flaw wherever no
known-good state that must keep its reward has a base reward as low. First it is fitted everywhere,
then, for what stays open, within balls around groups of flaws, where fewer states object.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from iirl_engine import Context, Proposal, Refiner, Repair, RewardModel, Sculpt
from iirl_refiners.options import SculptOptions

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# So many pairs of knots at most.
_PAIRS = 16
# What the steepest piece costs, against the mean loss of known-good states.
_STEEP = 1e-3
# Rounding must not carry a known-good state over its cap.
_SLACK = 1e-6
# So many of the most urgent flaws are grouped at most.
_GROUPED = 2000


class SculptMapping(Refiner[SculptOptions]):
    """Maps the base reward down: everywhere as far as that goes, then around groups of flaws."""

    def propose(self, repair: Repair, context: Context) -> Proposal:
        verdicts = _Verdicts(repair, self.options.max_loss)
        everywhere = verdicts.sculpted(repair.model, context)
        first = repair.model.with_corrections(everywhere)
        best, found = first, everywhere
        regions = 1
        while regions <= self.options.regions and verdicts.open(best).any():
            model, added = first, list[Sculpt]()
            for group in verdicts.groups(first, regions):
                new = verdicts.sculpted(model, context, group)
                model = model.with_corrections(new)
                added.extend(new)
            if verdicts.open(model).sum() < verdicts.open(best).sum():
                best, found = model, [*everywhere, *added]
            regions *= 2
        return verdicts.expected(best, found)


@attrs.frozen(eq=False)
class _Verdicts:
    """What flaws and known-good states ask of a mapping."""

    repair: Repair
    max_loss: float

    def open(self, model: RewardModel) -> Mask:
        """Return which flaws a reward still endorses, `[f]`."""
        return np.asarray(model(self.repair.flaws.states) > self.repair.floor)

    def groups(self, model: RewardModel, count: int) -> Iterator[Array]:
        """Yield the rows of the open flaws in groups, each as little spread out as can be."""
        rows = np.flatnonzero(self.open(model))[:_GROUPED]
        if count == 1 or len(rows) == 1:
            yield rows
            return
        labels = fcluster(linkage(self.repair.flaws.states[rows], "complete"), count, "maxclust")
        for label in np.unique(labels):
            yield rows[labels == label]

    def sculpted(
        self, model: RewardModel, context: Context, group: Array | None = None
    ) -> list[Sculpt]:
        """Return the correction that closes what it can of a group of flaws, of all without one.

        It is to be added to `model`. The list is empty where it can close none.
        """
        repair = self.repair
        rows = np.flatnonzero(self.open(model)) if group is None else group
        now = model(repair.known_good)
        allowed = np.maximum(self.max_loss - (repair.original - now) - _SLACK, 0.0)
        objects = now > allowed
        share, ball = np.ones(len(now)), {}
        if group is not None:
            placed = _ball(repair.flaws.states[rows], repair.known_good, objects)
            if placed is None:
                return []
            ball = dict(zip(("center", "inner", "outer"), placed, strict=True))
            whole = Sculpt(id="u", refiner="u", round=0, knots=[0, 1], values=[0, 0], **ball)
            share = whole.share(torch.tensor(repair.known_good)).numpy()
        flawed = repair.flaws.states[rows]
        base, good = (
            model.base(torch.tensor(states)).detach().numpy()
            for states in (flawed, repair.known_good)
        )
        # A little below the floor, so that the neighbourhood closes, too.
        most = base - model(flawed) + repair.floor / 2
        asked = objects & (share > 0)
        fitted = fit_mapping(base, most, good[asked], share[asked], allowed[asked])
        if fitted is None:
            return []
        knots, values = fitted
        # It may be asked more than once a round.
        taken = {correction.id for correction in model.corrections}
        names = (f"r{context.round}-{context.id}-{number}" for number in itertools.count())
        name = next(name for name in names if name not in taken)
        where = {"id": name, "refiner": context.id, "round": context.round}
        return [Sculpt(**where, knots=knots, values=values, **ball)]

    def expected(self, model: RewardModel, corrections: list[Sculpt]) -> Proposal:
        """Return the proposal, with what comes of it on flaws and known-good states."""
        open_rows = np.flatnonzero(self.open(model))
        loss = self.repair.original - model(self.repair.known_good)
        reason = (
            "no monotone mapping closes it, here or around it: a known-good state as low in base "
            f"reward would lose more than max_loss = {self.max_loss:g}"
        )
        return Proposal(
            corrections,
            closes=len(self.repair.flaws) - len(open_rows),
            worst_loss=float(loss.max(initial=0.0)),
            mean_loss=float(loss.mean()) if len(loss) else 0.0,
            left=dict.fromkeys(open_rows[:_GROUPED].tolist(), reason),
        )


def fit_mapping(
    flawed: Array, most: Array, good: Array, share: Array, allowed: Array
) -> tuple[Array, Array] | None:
    """Return knots and values `[k]` of the mapping p that closes all flaws that one can close.

    Among monotone p nowhere above the diagonal, with share (b - p(b)) <= allowed at known-good
    states, a first program finds the flaws with p(b) <= most: the lowest p closes all.
    A second closes these with the least mean loss, and little steepness. None if there are none.

    Parameters
    ----------
    flawed, most
        `[f]` base reward of flaws, and what p may be there at most.
    good, share, allowed
        `[g]` base reward of known-good states, how much of the mapping they get, from 0 to 1, and
        what they may lose.
    """
    if not len(flawed):
        return None
    knots = _knots(flawed, good[share * good > allowed])
    count = len(knots)
    at_flaws, at_good = _hats(flawed, knots), share[:, None] * _hats(good, knots)
    falls = np.eye(count)[:-1] - np.eye(count)[1:]
    limits = np.concatenate([np.zeros(count - 1), allowed - share * good])
    kept = np.concatenate([falls, -at_good])
    bounds = np.column_stack([np.zeros(count), knots])
    excess = np.concatenate([np.zeros((len(kept), len(flawed))), -np.eye(len(flawed))])
    first = linprog(
        np.concatenate([np.zeros(count), np.ones(len(flawed))]),
        A_ub=sparse.csr_array(np.hstack([np.concatenate([kept, at_flaws]), excess])),
        b_ub=np.concatenate([limits, most]),
        bounds=[*map(tuple, bounds), *[(0, None)] * len(flawed)],
        method="highs",
    )
    if not first.success:
        return None
    closed = first.x[count:] <= _SLACK / 10
    if not closed.any():
        return None
    # Its last unknown is the steepest slope.
    rises = np.column_stack([-falls / np.diff(knots)[:, None], -np.ones(count - 1)])
    others = np.concatenate([kept, at_flaws[closed]])
    rows = np.concatenate([np.column_stack([others, np.zeros(len(others))]), rises])
    gain = at_good.mean(axis=0) if len(good) else np.zeros(count)
    second = linprog(
        np.append(-gain - _STEEP / count, _STEEP),
        A_ub=sparse.csr_array(rows),
        b_ub=np.concatenate([limits, most[closed] + _SLACK / 10, np.zeros(count - 1)]),
        bounds=[*map(tuple, bounds), (0, None)],
        method="highs",
    )
    if not second.success:
        return None
    return knots, np.minimum(np.maximum.accumulate(second.x[:count].clip(0.0)), knots)


def _knots(flawed: Array, demanding: Array) -> Array:
    """Return base rewards from 0 to 1 where the mapping may bend.

    They come in pairs: a known-good state that may not lose everything, and the flaw next below.
    """
    ranks = np.linspace(0, len(demanding) - 1, min(len(demanding), _PAIRS)).round().astype(int)
    good, flawed = np.sort(demanding)[ranks], np.sort(flawed)
    below = np.searchsorted(flawed, good)
    flaws = flawed[np.append(below[below > 0], len(flawed)) - 1]
    knots = [0.0]
    for knot in np.unique([*good, *flaws]).tolist():
        # Pieces much narrower than rewards are told apart would be no slopes.
        if knot - knots[-1] > 1e-6 and knot < 1 - 1e-6:
            knots.append(knot)
    return np.array([*knots, 1.0])


def _hats(base: Array, knots: Array) -> Array:
    """Return the weights `[n, k]` with which a mapping's values count at base rewards `[n]`."""
    return np.column_stack([np.interp(base, knots, unit) for unit in np.eye(len(knots))])


def _ball(flaws: Array, good: Array, objects: Mask) -> tuple[Array, float, float] | None:
    """Return center, inner and outer radius of a ball around flaws `[f, d]`.

    It ends at the nearest known-good state that objects, but for those among the flaws.
    """
    center = flaws.mean(axis=0)
    inner = float(cdist(flaws, center[None]).max())
    outer = 1.2 * inner
    if objects.any():
        apart = cdist(good[objects], center[None])[:, 0]
        beyond = apart[apart > inner].min(initial=np.inf)
        clear = float(cdist(flaws, good[objects]).min())
        outer = max(outer, min(beyond, inner + clear))
    else:
        outer = outer or 1.0
    if not outer > inner:
        return None
    # Halfway, so that what is near the flaws is closed, too.
    middle = inner + (outer - inner) / 2
    return center, middle, outer
