"""Out of the distribution: far from the mean, in units of how the features vary together."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import MahalanobisOptions

# Least variance along any direction, of features with the variance 1.
_LEAST = 1e-4


class Mahalanobis(Detecting[MahalanobisOptions]):
    """Scores a state by its squared Mahalanobis distance from the mean of the expert states.

        (s - μ)ᵀ Σ⁻¹ (s - μ)

    Σ is the covariance as shrunk by Ledoit & Wolf (2004). Fits on few states of many features;
    finds correlations that are broken, and is blind to gaps inside the cloud.
    """

    def detector(self, states: Array, seed: int) -> Score:
        center, width = states.mean(axis=0), states.shape[1]
        if len(states) > 1:
            covariance, _ = ledoit_wolf(states)
        else:
            covariance = np.zeros((width, width))
        factor = cho_factor(covariance + _LEAST * np.eye(width))

        def score(asked: Array) -> Array:
            apart = asked - center
            return (apart * cho_solve(factor, apart.T).T).sum(axis=1)

        return score
