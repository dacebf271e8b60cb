"""Out of the distribution: far from the nearest expert states."""

from __future__ import annotations

from sklearn.neighbors import NearestNeighbors

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import KnnOptions


class Knn(Detecting[KnnOptions]):
    """Scores a state by its mean distance to the k nearest expert states.

    Finds gaps and bad combinations of any shape; what counts as far is the same everywhere
    (Ramaswamy, Rastogi & Shim. SIGMOD 2000).
    """

    def detector(self, states: Array, seed: int) -> Score:
        nearest = NearestNeighbors(n_neighbors=min(self.options.neighbours, len(states)))
        nearest.fit(states)
        return lambda asked: nearest.kneighbors(asked)[0].mean(axis=1)
