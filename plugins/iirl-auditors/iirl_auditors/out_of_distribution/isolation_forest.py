"""Out of the distribution: parted from the expert states by few random cuts."""

from __future__ import annotations

from sklearn.ensemble import IsolationForest as Forest

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import IsolationForestOptions


class IsolationForest(Detecting[IsolationForestOptions]):
    """Scores a state by how few random axis-parallel cuts isolate it (Liu, Ting & Zhou 2008).

    Fast, and indifferent to units; finds single features out of their range, and little else: a bad
    combination of ordinary features takes as many cuts as a good one.
    """

    def detector(self, states: Array, seed: int) -> Score:
        forest = Forest(n_estimators=self.options.trees, random_state=seed).fit(states)
        return lambda asked: -forest.score_samples(asked)
