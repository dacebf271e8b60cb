"""Local kernels whose strengths a linear program chooses.

Flaws are samples of flawed regions, so the program closes more than them: states drawn around
the flaws and around known-good states that turn out flawed too. A greedy cover of these by balls
that reach no known-good state gives the dictionary of kernels. The program

    minimise    sum_j w_j
    subject to  sum_j w_j φ_j(f) >= R(f) + margin    for every flaw f,
                sum_j w_j φ_j(g) <= cap - lost(g)    for every known-good state g,  w >= 0

is solved over few flaws at first; those that its solution leaves open join it until none does.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.spatial import cKDTree

from iirl_engine import Context, Kernels, Refiner, Repair
from iirl_engine.corrections.base import Correction
from iirl_refiners.options import KernelLpOptions

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# A flaw counts as covered within this share of a kernel's radius, where φ is still above 0.01.
_REACH = 0.75
# Suppression beyond what closes a flaw, so that its neighbourhood closes with it.
_MARGIN = 0.3
# States drawn around each flaw and around each known-good state in search of further flaws.
_AROUND_FLAW, _AROUND_GOOD = 4, 32
_POOL = 60_000
# Flaws that the program starts with, and that join it at a time.
_FIRST, _MORE = 500, 1000
# What leaving a flaw open costs, in units of strength: dear, but never infeasible.
_OPEN = 1e3
# Kernels no stronger than this are left out; the margin covers for them.
_NEGLIGIBLE = 1e-7
# Rounding must not carry a known-good state over its cap.
_SLACK = 1e-6


class KernelLp(Refiner[KernelLpOptions]):
    """Closes every flaw it can with the least total strength, under the cap on known-good loss."""

    def propose(self, repair: Repair, context: Context) -> Sequence[Correction]:
        generator = context.generator()
        now = repair.model(repair.known_good)
        allowed = np.maximum(self.options.max_loss - (repair.original - now) - _SLACK, 0.0)
        # A state whose whole reward may be lost needs no protection.
        protected = now > allowed
        good, allowed = repair.known_good[protected], allowed[protected]
        tree = cKDTree(good if len(good) else repair.known_good)
        pool = _flawed_neighbourhood(repair, good, tree, generator)
        radii = np.maximum(tree.query(pool)[0], 1e-3 * _width(repair))
        chosen = cover(pool, radii, _REACH)[: self.options.max_corrections]
        centers, radii = pool[chosen], radii[chosen]
        needed = repair.model(pool) + _MARGIN
        strengths = strengths_by_program(
            _profiles(pool, centers, radii),
            needed,
            _profiles(good, centers, radii),
            allowed,
            generator,
        )
        kept = strengths > _NEGLIGIBLE
        if not kept.any():
            return ()
        return (
            Kernels(
                id=f"r{context.round}-{context.id}",
                refiner=context.id,
                round=context.round,
                centers=centers[kept],
                radii=radii[kept],
                strengths=strengths[kept],
            ),
        )


def cover(points: Array, radii: Array, reach: float) -> Rows:
    """Return rows whose balls of `reach * radius` cover all points, largest gain first.

    Lazy greedy set cover; ties go to the lower row. Points must be covered by their own ball.
    """
    balls = cKDTree(points).query_ball_point(points, reach * radii, return_sorted=True)
    heap = [(-len(ball), row) for row, ball in enumerate(balls)]
    heapq.heapify(heap)
    open_points = np.ones(len(points), dtype=np.bool_)
    chosen = []
    while heap:
        _, row = heapq.heappop(heap)
        gain = int(open_points[balls[row]].sum())
        if gain == 0:
            continue
        if heap and -gain > heap[0][0]:
            heapq.heappush(heap, (-gain, row))
            continue
        chosen.append(row)
        open_points[balls[row]] = False
    return np.array(chosen, dtype=np.int64)


def strengths_by_program(
    closing: sparse.csr_array,
    needed: Array,
    costing: sparse.csr_array,
    allowed: Array,
    generator: np.random.Generator,
) -> Array:
    """Return strengths `[k]` of least sum that close what can be closed within the cap.

    Parameters
    ----------
    closing
        `[m, k]` profile of each kernel at each flaw.
    needed
        `[m]` suppression that each flaw needs, margin included.
    costing
        `[g, k]` profile of each kernel at each known-good state.
    allowed
        `[g]` suppression that each of them may still get.
    """
    kernels = closing.shape[1]
    order = generator.permutation(len(needed))
    rows, rest = order[:_FIRST], order[_FIRST:]
    while True:
        slack = sparse.eye_array(len(rows), format="csr")
        none = sparse.csr_array((costing.shape[0], len(rows)))
        left = sparse.vstack(
            [sparse.hstack([-closing[rows], -slack]), sparse.hstack([costing, none])]
        )
        solution = linprog(
            np.concatenate([np.ones(kernels), np.full(len(rows), _OPEN)]),
            A_ub=left.tocsc(),
            b_ub=np.concatenate([-needed[rows], allowed]),
            bounds=(0, None),
            method="highs",
        )
        if solution.x is None:
            raise RuntimeError(f"the linear program was not solved: {solution.message}")
        strengths: Array = solution.x[:kernels]
        short = needed[rest] - closing[rest] @ strengths > _MARGIN
        if not short.any():
            return strengths
        joining = rest[short][:_MORE]
        rows = np.concatenate([rows, joining])
        rest = np.setdiff1d(rest, joining)


def _flawed_neighbourhood(
    repair: Repair, good: Array, tree: cKDTree, generator: np.random.Generator
) -> Array:
    """Return the flaws and further flawed states `[m, d]` drawn around them and around good ones.

    States are drawn at the scale of the gap between flaws and known-good states, and cut to the
    domain, whose faces then are sampled too.
    """
    flaws = repair.flaws.states
    gaps = np.asarray(tree.query(flaws)[0])
    # Row numbers first: the states themselves, so often repeated, may not fit into memory.
    rows = np.concatenate(
        [
            np.repeat(np.arange(len(flaws)), _AROUND_FLAW),
            np.repeat(np.arange(len(flaws), len(flaws) + len(good)), _AROUND_GOOD),
        ]
    )
    if len(rows) > _POOL:
        rows = rows[generator.choice(len(rows), _POOL, replace=False)]
    centers = np.concatenate([flaws, good])[rows]
    scales = np.concatenate([gaps / 2, np.full(len(good), np.quantile(gaps, 0.25))])[rows]
    noise = generator.standard_normal(centers.shape)
    domain = repair.model.domain
    drawn = np.clip(centers + scales[:, None] * noise, domain.low, domain.high)
    with torch.no_grad():
        forbidden = (repair.model.violation(torch.from_numpy(drawn)) > 0).numpy()
    flawed = drawn[forbidden & (repair.model(drawn) > repair.floor)]
    return np.concatenate([flaws, flawed])


def _width(repair: Repair) -> float:
    domain = repair.model.domain
    return float(np.linalg.norm(np.subtract(domain.high, domain.low)))


def _profiles(states: Array, centers: Array, radii: Array) -> sparse.csr_array:
    """Return φ of each state and kernel, `[n, k]`, without the zeros."""
    kernels = Kernels(
        id="all", refiner="", round=0, centers=centers, radii=radii, strengths=np.ones(len(radii))
    )
    blocks = np.array_split(states, max(1, len(states) * len(centers) // 2**22))
    return sparse.vstack(
        [sparse.csr_array(kernels.profiles(torch.tensor(block)).numpy()) for block in blocks],
        format="csr",
    )
