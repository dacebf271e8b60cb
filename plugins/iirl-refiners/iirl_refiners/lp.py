"""Local kernels whose strengths a linear program chooses.

Flaws are samples of flawed regions, so the kernels close more than them: states drawn around
the flaws and around known-good states that turn out flawed too. A greedy cover of these by balls
of many scales that reach no known-good state gives the first kernels, a program gives their
strengths, and its duals price wider kernels for what these leave open: see `balls` and `program`.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from iirl_engine import Context, Kernels, Proposal, Refiner, Repair
from iirl_engine.support import Support
from iirl_refiners.balls import (
    Balls,
    Spared,
    cover,
    inside,
    joined,
    overlapping,
    profiles,
    touching,
)
from iirl_refiners.neighbourhood import neighbourhood
from iirl_refiners.options import KernelLpOptions
from iirl_refiners.program import Solution, pruned, reduced_costs, solve

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# The reward ends at 0, so a kernel may be much stronger than the reward is high; the stronger it
# is, the nearer to the rim of its ball it closes flaws: here within 0.92 of the radius.
_STRONGEST, _REACH = 1e4, 0.92
# Suppression beyond what closes a flaw, so that its neighbourhood closes with it.
_MARGIN = 0.5
# How often kernels are added by price, for how many flaws, and how many at a time.
_PRICINGS, _HARDEST, _ADDED = 5, 100, 50
# Rounding must not carry a known-good state over its cap.
_SLACK = 1e-6
# Few flaws are to be mended by few kernels, whatever their neighbourhood is like: by so many, and
# so many more for each flaw.
_FEW, _PER_FLAW = 50, 2
# No kernel is narrower than this share of the domain's diagonal.
_NARROWEST = 1e-4


class KernelLp(Refiner[KernelLpOptions]):
    """Closes every flaw it can with few kernels, under the cap on what known-good states lose."""

    def propose(self, repair: Repair, context: Context) -> Proposal:
        if not len(repair.flaws):
            return Proposal()
        now = repair.model(repair.known_good)
        allowed = np.maximum(self.options.max_loss - (repair.original - now) - _SLACK, 0.0)
        balls, strengths = kernels_for(
            repair.flaws.states,
            repair,
            allowed,
            now > allowed,
            self.options.max_corrections,
            context.generator(),
        )
        kernels = Kernels(
            id=f"r{context.round}-{context.id}",
            refiner=context.id,
            round=context.round,
            strengths=strengths,
            **balls._asdict(),
        )
        return _proposal(repair, kernels, allowed, self.options.max_corrections)


def kernels_for(
    flaws: Array,
    repair: Repair,
    allowed: Array,
    protected: Mask,
    most: int,
    generator: np.random.Generator,
) -> tuple[Balls, Array]:
    """Return balls and strengths of kernels that close flaws of the repair's model.

    Parameters
    ----------
    flaws
        `[m, d]`, m >= 1.
    allowed
        `[k]` suppression that each known-good state may still get.
    protected
        `[k]` whether it needs protection: not where its whole reward may be lost.
    most
        Kernels at most.
    """
    good = Support(repair.known_good[protected] if protected.any() else repair.known_good)
    gaps = good.distance(torch.tensor(flaws)).numpy()
    drawn = neighbourhood(repair.model, repair.floor, flaws, good.states, gaps, generator)
    spared = Spared(drawn.spared, repair.model(drawn.spared))
    domain = repair.model.domain
    least = _NARROWEST * float(np.linalg.norm(np.subtract(domain.high, domain.low)))
    reported = generator.permutation(flaws)
    few = min(most, _FEW + _PER_FLAW * len(reported))
    balls = cover(reported, drawn.flawed, good, spared, _REACH, least, few, generator)
    covered = inside(drawn.flawed, balls.scaled(_REACH)).any(axis=0)
    points = np.concatenate([reported, drawn.flawed[covered]])

    needed = repair.model(points) - repair.floor / 2
    columns = _Columns.of(balls, points, repair.known_good[protected], spared)
    full = np.full(len(balls.radii), _STRONGEST)
    columns = columns.take(pruned(columns.closing, needed + _MARGIN, full, columns.prices) > 0)
    for turn in range(_PRICINGS + 1):
        solution = columns.solve(needed, allowed[protected])
        room = most - len(columns.prices)
        gets = columns.closing @ solution.strengths
        left = np.flatnonzero(gets[: len(reported)] < needed[: len(reported)])
        if turn == _PRICINGS or room <= 0 or not len(left):
            break
        sites = points[left[np.argsort(-solution.at_flaws[left], kind="stable")[:_HARDEST]]]
        # Balls for what stays open may reach beyond the nearest known-good state: what its cap
        # allows is kept for them.
        wide = joined(touching(sites, good, _REACH, least), overlapping(sites, good, least))
        offered = _Columns.of(wide, points, repair.known_good[protected], spared)
        costs = reduced_costs(
            solution, offered.closing, offered.costing, offered.prices, _STRONGEST
        )
        best = np.argsort(costs, kind="stable")[: min(room, _ADDED)]
        # Worth a kernel is what saves a good part of what one costs.
        best = best[costs[best] < -0.5 / _STRONGEST]
        if not len(best):
            break
        columns = columns.joined(offered.take(best))
    # What cannot be closed must not spend, halfway, what the caps allow.
    closes = gets >= needed
    if not closes.all():
        columns, needed = columns.facing(closes), needed[closes]
        solution = columns.solve(needed, allowed[protected])
    strengths = pruned(columns.closing, needed + _MARGIN / 2, solution.strengths, columns.prices)
    kept = strengths > 0
    return columns.balls.take(kept), strengths[kept]


@attrs.frozen
class _Columns:
    """Columns of the program: balls, their φ at flaws and known-good states, and their prices."""

    balls: Balls
    closing: sparse.csr_array
    costing: sparse.csr_array
    prices: Array

    @classmethod
    def of(cls, balls: Balls, points: Array, good: Array, spared: Spared) -> _Columns:
        return cls(
            balls,
            profiles(points, balls),
            _exactly(good, balls),
            spared.price(balls.scaled(_REACH)),
        )

    def take(self, columns: Rows | Mask) -> _Columns:
        return _Columns(
            self.balls.take(columns),
            self.closing[:, columns],
            self.costing[:, columns],
            self.prices[columns],
        )

    def facing(self, rows: Mask) -> _Columns:
        return attrs.evolve(self, closing=self.closing[rows])

    def joined(self, other: _Columns) -> _Columns:
        return _Columns(
            joined(self.balls, other.balls),
            sparse.hstack([self.closing, other.closing], format="csr"),
            sparse.hstack([self.costing, other.costing], format="csr"),
            np.concatenate([self.prices, other.prices]),
        )

    def solve(self, needed: Array, allowed: Array) -> Solution:
        return solve(self.closing, needed, _MARGIN, self.costing, allowed, self.prices, _STRONGEST)


def _proposal(repair: Repair, kernels: Kernels, allowed: Array, most: int) -> Proposal:
    """Return the kernels with what they do, and the reason for each flaw that they leave open."""
    added = (kernels,) if kernels.count else ()
    # Asked twice in a round, it proposes under an id that the engine then makes its own.
    mended = repair.model.with_corrections([attrs.evolve(c, id="proposed") for c in added])
    rewards = mended(repair.flaws.states)
    loss = repair.original - mended(repair.known_good)
    taken = np.zeros(len(loss))
    if added:
        taken = (
            _exactly(repair.known_good, Balls(kernels.centers, kernels.radii)) @ kernels.strengths
        )
    left = {}
    for row in np.flatnonzero(rewards > repair.floor):
        needs = f"needs {rewards[row] - repair.floor:.3g} more taken off"
        if kernels.count >= most:
            left[int(row)] = f"{needs}; the {most} kernels of the round are spent"
            continue
        apart = np.linalg.norm(repair.known_good - repair.flaws.states[row], axis=1)
        nearest = int(apart.argmin())
        left[int(row)] = (
            f"{needs}; the cap of known-good state {nearest}, {apart[nearest]:.3g} away, "
            f"leaves {max(allowed[nearest] - taken[nearest], 0.0):.3g}"
        )
    return Proposal(
        added,
        closes=len(rewards) - len(left),
        worst_loss=float(loss.max()),
        mean_loss=float(loss.mean()),
        left=left,
    )


def _exactly(states: Array, balls: Balls) -> sparse.csr_array:
    """Return φ of each state and ball as the reward will compute it, `[n, k]`."""
    if not len(balls.radii):
        return sparse.csr_array((len(states), 0))
    kernels = Kernels(
        id="all", refiner="", round=0, strengths=np.ones(len(balls.radii)), **balls._asdict()
    )
    blocks = np.array_split(states, max(1, len(states) * kernels.count // 2**22))
    found = [sparse.csr_array(kernels.profiles(torch.tensor(block)).numpy()) for block in blocks]
    return sparse.vstack(found, format="csr")
