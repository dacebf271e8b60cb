"""Triages: a permutation of what they are given."""

from __future__ import annotations

import numpy as np

from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.refiners import repair
from iirl_engine.testing.worlds import Flat


@check("triage")
def ranking_is_a_permutation(subject: Subject) -> None:
    """Every flaw is ranked once, many flaws or one or none, and the same each time."""
    flaws = repair(Flat()).flaws
    for count in (len(flaws), 1, 0):
        some = flaws.take(range(count))
        first, second = (
            np.asarray(subject.build().rank(some, subject.context())) for _ in range(2)
        )
        require(sorted(first.tolist()) == list(range(count)), "the ranking is no permutation")
        require(np.array_equal(first, second), "two rankings of one seed differ")
