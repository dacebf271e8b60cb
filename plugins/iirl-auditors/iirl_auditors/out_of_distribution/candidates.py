"""Where flaws may hide around the demonstrations; no score is looked at here.

All arrays are in the units of the demonstrations (`units.Units`). What is proposed may lie outside
the domain, and is brought back into it by whoever asks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Array = NDArray[np.float64]

# Expert states that the usual distance to the next one is told from.
_SAMPLE = 1000


def propose(expert: Array, low: Array, high: Array, count: int, rng: np.random.Generator) -> Array:
    """Return `[count, d]` states of three kinds, taking turns.

    - *recombined*: each feature from one of two expert states. Every feature is in its range; that
      they go together is what a reward may have failed to learn.
    - *around*: off an expert state in a random direction, by any distance between the usual gap
      among expert states and the edge of the domain, each order of magnitude alike.
    - *anywhere*: uniform in the domain.

    Parameters
    ----------
    expert
        `[n, d]`, n >= 1.
    low, high
        `[d]` the domain.
    """
    first, second = expert[rng.integers(len(expert), size=(2, count))]
    recombined = np.where(rng.random(first.shape) < 0.5, first, second)
    nearest, farthest, direction = _rays(first, expert, low, high, rng)
    around = first + nearest * (farthest / nearest) ** rng.random((count, 1)) * direction
    anywhere = low + (high - low) * rng.random(first.shape)
    kind = np.arange(count)[:, None] % 3
    return np.choose(kind, [recombined, around, anywhere])


def rays(
    expert: Array, low: Array, high: Array, count: int, looks: int, rng: np.random.Generator
) -> Array:
    """Return `[count, looks, d]`: states on rays that leave an expert state each, nearest first.

    Their distances rise geometrically from the usual gap among expert states to the edge of the
    domain.
    """
    first = expert[rng.integers(len(expert), size=count)]
    nearest, farthest, direction = _rays(first, expert, low, high, rng)
    distance = nearest * (farthest / nearest) ** np.linspace(0, 1, looks)
    return first[:, None] + distance[:, :, None] * direction[:, None]


def _rays(
    first: Array, expert: Array, low: Array, high: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return the shortest and longest distance `[n, 1]` of rays from `first`, and directions."""
    direction = rng.normal(size=first.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    edge = np.where(direction > 0, high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.nan_to_num((edge - first) / direction, nan=np.inf, posinf=np.inf)
    most = np.linalg.norm(high - low)
    farthest = np.clip(reach.min(axis=1, keepdims=True), 1e-6 * most, most)
    return np.clip(_gap(expert), 1e-3 * farthest, farthest / 2), farthest, direction


def _gap(expert: Array) -> float:
    """Return the median distance from an expert state to the next one; 0 when there is one."""
    if len(expert) == 1:
        return 0.0
    some = expert[:: -(-len(expert) // _SAMPLE)]
    distance, _ = NearestNeighbors(n_neighbors=2).fit(expert).kneighbors(some)
    return float(np.median(distance[:, 1]))
