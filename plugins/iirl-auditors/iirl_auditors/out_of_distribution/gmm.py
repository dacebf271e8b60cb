"""Out of the distribution: unlikely under a mixture of Gaussians."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import GmmOptions

# Least variance along any direction, of features with the variance 1.
_LEAST = 1e-4
# Expert states that each Gaussian must have at least, per feature.
_STATES = 5


class Gmm(Detecting[GmmOptions]):
    """Scores a state by minus its log density under a mixture of Gaussians, fitted by EM.

    Knows which features go together in each mode of behaviour, and so finds bad combinations and
    the gaps between modes; follows curved support only roughly.
    """

    def detector(self, states: Array, seed: int) -> Score:
        if len(states) == 1:  # a variance takes two
            states = np.repeat(states, 2, axis=0)
        most = max(1, len(states) // (_STATES * states.shape[1]))
        mixture = GaussianMixture(
            min(self.options.components, most),
            reg_covar=_LEAST,
            init_params="k-means++",
            random_state=seed,
        )
        with warnings.catch_warnings():  # a mixture that could fit better still is a detector
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(states)
        return lambda asked: -mixture.score_samples(asked)
