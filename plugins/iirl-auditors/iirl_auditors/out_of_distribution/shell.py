"""Probes of the shell just outside the support, where a reward that generalises endorses most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iirl_auditors.out_of_distribution.options import ShellOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_BATCH = 512
# Probes drawn per query, at most: where hardly one is forbidden, the search ends.
_DRAWS = 8
# Queries in more features than are worth it.
_FEW = 16


class Shell(Auditor[ShellOptions]):
    """Asks about states one to `1 + thickness` scales away from expert states, in any direction.

    A scale is how far apart two states may lie and still count as near (`Target.scale`), with the
    norm `support` the distance that it allows. The reward of few features leaks there first, in
    many slivers along the limit. In more than `features` features it asks about a few states and
    ends: the flawed share of a shell is then too small to be hit by chance, unless all of it is.
    """

    family: Family = "out-of-distribution"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        expert = torch.tensor(target.demonstrations.states)
        if len(target.low) > self.options.features:
            target = target.part(_FEW)
        for _ in range(1 + _DRAWS * target.budget // _BATCH):
            rows = torch.randint(len(expert), (_BATCH,), generator=generator)
            away = torch.randn(_BATCH, len(target.low), dtype=torch.float64, generator=generator)
            away = away / torch.linalg.vector_norm(away, dim=1, keepdim=True)
            share = torch.rand(_BATCH, 1, dtype=torch.float64, generator=generator)
            probes = expert[rows] + target.scale * (1 + self.options.thickness * share) * away
            probes = probes[((probes >= target.low) & (probes <= target.high)).all(dim=1)]
            forbidden = probes[target.violation(probes) > 0][: target.remaining]
            if len(forbidden):
                yield forbidden[target.reward(forbidden) > target.floor]
            if target.remaining == 0:
                return
