"""Triage by severity: the flaw that the reward endorses most comes first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iirl_engine.api import Context, Triage
from iirl_engine.options import NoOptions
from iirl_engine.records import Flaws


class Severity(Triage[NoOptions]):
    """Orders flaws by reward, then by how far the norm is violated, then by id."""

    def rank(self, flaws: Flaws, context: Context) -> NDArray[np.int64]:
        return np.lexsort((np.array(flaws.ids), -flaws.violations, -flaws.rewards))
