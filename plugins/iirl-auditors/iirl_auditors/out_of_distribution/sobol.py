"""Space-filling probes of the domain: a scrambled Sobol sequence, where a norm forbids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.out_of_distribution.options import SobolOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_BATCH = 4096
# Probes drawn per query, at most: norms that allow nearly all of the domain end the search.
_DRAWS = 4


class Sobol(Auditor[SobolOptions]):
    """Draws points of a scrambled Sobol sequence (Owen 1998) and asks about the forbidden ones.

    Each point is uniform in the domain, so the share of flaws among them is an unbiased estimate of
    the flawed volume; they are not independent of each other.
    """

    family: Family = "out-of-distribution"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        seed = int(context.generator().integers(2**31))
        sequence = torch.quasirandom.SobolEngine(len(target.low), scramble=True, seed=seed)
        width = target.high - target.low
        for _ in range(max(1, _DRAWS * target.budget // _BATCH)):
            probes = target.low + width * sequence.draw(_BATCH, dtype=torch.float64)
            yield target.survey(probes)
            if target.remaining == 0:
                return
