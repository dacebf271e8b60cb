"""Out of the distribution: in emptier surroundings than the nearest expert states are in."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import LocalOutlierFactor

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import LofOptions


class Lof(Detecting[LofOptions]):
    """Scores a state by its local outlier factor: its neighbours' density over its own.

    What counts as far depends on how densely the expert states lie there, so it finds flaws close
    to a dense part of the support, which `knn` takes for ordinary beside a sparse part (Breunig,
    Kriegel, Ng & Sander. SIGMOD 2000).
    """

    def detector(self, states: Array, seed: int) -> Score:
        if len(states) == 1:  # a neighbourhood takes two
            states = np.repeat(states, 2, axis=0)
        size = min(self.options.neighbours, len(states) - 1)
        factor = LocalOutlierFactor(n_neighbors=size, novelty=True).fit(states)
        return lambda asked: -factor.score_samples(asked)
