"""How far a file's rewards are from the model's: measured, not presumed."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from iirl_engine import Correction, Cut, Kernels, RewardModel, Sculpt
from iirl_export.formats import Score

Array = NDArray[np.float64]

# States of each origin at most, and rows per call.
_MOST = 2048
_ROWS = 256


def finite_states(model: RewardModel) -> Array:
    """Return `[n, d]` states on which a file must agree with its model.

    Demonstrations, held-out ones, states that audits looked at, random states of the domain, the
    centres of kernels and of balls, the demonstrations carried to where a cut has taken half, and
    the middle of the demonstrations with single features far out.
    """
    data = model.demonstrations
    generator = np.random.default_rng(0)
    low, high = np.array(model.domain.low), np.array(model.domain.high)
    centers = [c.centers for c in model.corrections if _placed(c)]
    cuts = [_carried(data.states, c) for c in model.corrections if isinstance(c, Cut)]
    balls = [c.center[None] for c in model.corrections if isinstance(c, Sculpt) and c.center.size]
    chosen = [
        _some(states, generator)
        for states in (data.states, data.held_out, model.probes, *centers, *balls, *cuts)
        if len(states)
    ]
    far = np.tile(np.median(data.states, axis=0), (4, 1))
    far[[0, 1], 0] = far[[2, 3], -1] = -1e30, 1e30
    return np.concatenate([*chosen, generator.uniform(low, high, (_MOST, model.width)), far])


def broken_states(model: RewardModel) -> Array:
    """Return `[4 d, d]` demonstrations with NaN, Inf or -Inf in one feature, or NaN in all."""
    rows = []
    for value in (np.nan, np.inf, -np.inf):
        states = np.tile(model.demonstrations.states[0], (model.width, 1))
        np.fill_diagonal(states, value)
        rows.append(states)
    return np.concatenate([*rows, np.full((model.width, model.width), np.nan)])


def difference(model: RewardModel, score: Score, dtype: np.dtype[Any]) -> tuple[float, int]:
    """Return the largest difference from the model, and the number of states compared.

    Whole batches and single rows are scored. For a state with NaN or Inf the
    reward must be 0. An answer of another shape or type, or one that is no number, differs by Inf.

    Parameters
    ----------
    model
        The reward.
    score
        What a file computes.
    dtype
        Of states and rewards, float64 or float32.
    """
    finite, broken = finite_states(model).astype(dtype), broken_states(model).astype(dtype)
    states = np.concatenate([broken, finite])
    expected = np.concatenate([np.zeros(len(broken), dtype), model(finite)])
    # Single rows are of every kind: broken, demonstrated, and far out.
    single = [*range(4), *range(len(broken), len(broken) + 4), *range(len(states) - 4, len(states))]
    parts = [slice(row, row + 1) for row in single]
    parts += [slice(start, start + _ROWS) for start in range(0, len(states), _ROWS)]
    return max(_apart(score(states[part]), expected[part]) for part in parts), len(states)


def _placed(correction: Correction) -> TypeGuard[Kernels]:
    return isinstance(correction, Kernels) and correction.space == "state"


def _carried(states: Array, cut: Cut) -> Array:
    """Return the states nearest to `states [n, d]` half a width inside a cut's planes."""
    beyond = states @ cut.normals.T - cut.offsets + cut.widths / 2
    steps = beyond / np.square(cut.normals).sum(axis=1)
    return np.concatenate([states - np.outer(steps[:, j], a) for j, a in enumerate(cut.normals)])


def _some(states: Array, generator: np.random.Generator) -> Array:
    """Return at most so many rows, drawn without replacement."""
    if len(states) <= _MOST:
        return states
    return states[generator.choice(len(states), _MOST, replace=False)]


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    apart = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    return float(np.nan_to_num(apart, nan=np.inf))
