"""How strong each kernel must be: a linear program, its rows and columns made as needed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# Flaws that the program starts with, and that join it at a time.
_FIRST, _JOINING = 800, 1_000
# What it costs, per unit of suppression, to leave a flaw open, and to close it without margin.
_OPEN, _BARE = 1e4, 10.0
# Kernels no stronger than this, as a share of the strongest that may be, are left out.
_NEGLIGIBLE = 1e-9


class Solution(NamedTuple):
    """Strengths `[k]`, and duals: of each flaw `[m]`, and of each cap `[g]`."""

    strengths: Array
    at_flaws: Array
    at_caps: Array


def solve(
    closing: sparse.csr_array,
    needed: Array,
    margin: float,
    costing: sparse.csr_array,
    allowed: Array,
    prices: Array,
    strongest: float,
) -> Solution:
    """Return the strengths of least price that close what can be closed within the caps.

        minimise    Σ_j price_j w_j / strongest + open Σ_f x_f + bare Σ_f y_f
        subject to  Σ_j w_j φ_j(f) + x_f + y_f >= needed(f) + margin,  0 <= x, 0 <= y <= margin
                    Σ_j w_j φ_j(g) <= allowed(g),                      0 <= w <= strongest

    It is solved over the flaws that are hardest to close at first; those that its solution leaves
    short join it until none is. By the duals that come with the strengths further kernels are
    priced: see `reduced_costs`.

    Parameters
    ----------
    closing
        `[m, k]` profile of each kernel at each flaw.
    needed
        `[m]` suppression that closes each flaw; `margin` beyond it closes its neighbourhood.
    costing
        `[g, k]` profile of each kernel at each known-good state.
    allowed
        `[g]` suppression that each of them may still get.
    prices
        `[k]` what each kernel costs at full strength.
    """
    kernels = closing.shape[1]
    hardest = np.argsort(closing.sum(axis=1) / (needed + margin), kind="stable")
    rows, rest = np.split(hardest, [_FIRST])
    while True:
        slack = sparse.eye_array(len(rows), format="csr")
        none = sparse.csr_array((costing.shape[0], len(rows)))
        left = sparse.block_array(
            [[-closing[rows], -slack, -slack], [costing, none, none]], format="csc"
        )
        costs = [prices / strongest, np.full(len(rows), _OPEN), np.full(len(rows), _BARE)]
        most = [np.full(kernels, strongest), np.full(len(rows), np.inf), np.full(len(rows), margin)]
        upper = np.concatenate(most)
        found = linprog(
            np.concatenate(costs),
            A_ub=left,
            b_ub=np.concatenate([-needed[rows] - margin, allowed]),
            bounds=np.column_stack([np.zeros(len(upper)), upper]),
            method="highs",
        )
        if found.x is None:
            raise RuntimeError(f"the linear program was not solved: {found.message}")
        strengths = np.clip(found.x[:kernels], 0.0, strongest)
        short = needed[rest] + margin / 2 - closing[rest] @ strengths > 0
        if not short.any():
            break
        joining = rest[short][:_JOINING]
        rows, rest = np.concatenate([rows, joining]), rest[~np.isin(rest, joining)]
    strengths[strengths <= _NEGLIGIBLE * strongest] = 0.0
    duals = -found.ineqlin.marginals
    at_flaws = np.zeros(len(needed))
    at_flaws[rows] = duals[: len(rows)]
    return Solution(strengths, at_flaws, duals[len(rows) :])


def reduced_costs(
    solution: Solution,
    closing: sparse.csr_array,
    costing: sparse.csr_array,
    prices: Array,
    strongest: float,
) -> Array:
    """Return what a unit of each further kernel would change the program's value by, `[k]`."""
    saved = closing.T @ solution.at_flaws - costing.T @ solution.at_caps
    return np.asarray(prices / strongest - saved)


def pruned(closing: sparse.csr_array, needed: Array, strengths: Array, prices: Array) -> Array:
    """Return the strengths with those set to 0 that no flaw needs, the dearest tried first.

    A flaw that gets at least `needed [m]` keeps at least that; others lose nothing.
    """
    columns = closing.tocsc()
    kept = strengths.copy()
    total = closing @ strengths
    least = np.minimum(total, needed)
    for kernel in np.argsort(-prices, kind="stable"):
        part = slice(columns.indptr[kernel], columns.indptr[kernel + 1])
        rows = columns.indices[part]
        without = total[rows] - kept[kernel] * columns.data[part]
        if (without >= least[rows]).all():
            total[rows], kept[kernel] = without, 0.0
    return kept
