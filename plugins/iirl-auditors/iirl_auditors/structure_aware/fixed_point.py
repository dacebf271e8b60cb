"""States that an autoencoder maps to themselves, s = D_k(E_k(s)), and the valleys around them.

Such a state has no error of reconstruction, wherever it lies. The map z -> E_k(D_k(z)) of codes has
few dimensions; its fixed points, and the directions in which the error hardly grows around them,
are found without any gradient of the reward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from iirl_auditors.structure_aware.candidates import NO_EXPERTS, Candidates, Enough, few, readable
from iirl_auditors.structure_aware.options import FixedPointOptions
from iirl_auditors.structure_aware.valleys import walk
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

# Searches at once, per expert: few at first, so that a first flaw costs little.
_FEWEST, _MOST = 4, 64
_WALKERS = 32
# In few features, the share of the budget that is spent; a search by gradients is worth the rest.
_SHARE = 0.3


class FixedPoint(Auditor[FixedPointOptions]):
    """Searches fixed points of every autoencoder, then walks along the valleys they lie in.

    In up to four features flaws are small and lie close together: there it searches twice as long
    and does not walk, and leaves seven tenths of its budget. Does nothing when the encoder has no
    autoencoders.
    """

    family: Family = "adversarial"
    blind_to: ClassVar = NO_EXPERTS

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        steps, walks = self.options.steps, self.options.walks
        if few(target):
            target = target.part(math.ceil(_SHARE * target.budget))
            steps, walks = 2 * steps, 0.0
        read = readable(target)
        if read is None:
            return
        experts, code = read
        generator, drawn = context.torch_generator(), context.generator()
        candidates = Candidates(target, experts, drawn)
        walked = torch.empty(0, dtype=torch.int64)
        spent = {"search": 0, "walk": 0}
        count = _FEWEST
        # A walker's Jacobians cost a pass per entry of its code; no walk takes all that is left.
        walkers = max(1, min(_WALKERS, target.budget // (20 * code)))
        try:
            while True:
                before = target.remaining
                if len(candidates.states) and spent["walk"] < walks * sum(spent.values()):
                    fresh = len(candidates.anchors) - len(walked)
                    walked = torch.cat([walked, walked.new_zeros(fresh)])
                    tired = walked + torch.rand(len(walked), generator=generator)
                    least = tired.argsort()[:walkers]
                    walked[least] += 1
                    walk(candidates, candidates.anchors[least], generator)
                    spent["walk"] += before - target.remaining
                else:
                    for expert in range(experts.count):
                        codes = candidates.uniform(count, expert, generator)
                        codes = starts(codes, generator)
                        search(candidates, codes, expert, steps)
                        if count < _MOST:  # each norm is slow to be asked about few states
                            yield from candidates.learn()
                    yield from candidates.learn()
                    count = min(2 * count, _MOST)
                    spent["search"] += before - target.remaining
        except Enough:
            yield from candidates.learn()
        yield from candidates.report()


def starts(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Return codes to start from: every other one drawn from around the range of all, `[n, b]`.

    The codes of uniform states lie together in the middle of what a decoder can be asked for.
    """
    low, high = codes.amin(dim=0), codes.amax(dim=0)
    stretch = 0.3 + 1.2 * torch.rand(len(codes), 1, dtype=torch.float64, generator=generator)
    share = 2 * torch.rand(codes.shape, dtype=torch.float64, generator=generator) - 1
    drawn = (low + high) / 2 + stretch * (high - low) / 2 * share
    return torch.where(torch.arange(len(codes))[:, None] % 2 == 0, codes, drawn)


def search(candidates: Candidates, codes: Tensor, expert: int, steps: int) -> None:
    """Look for fixed points of z -> E(D(z)) from `codes [n, b]`, all at once.

    Anderson acceleration of depth 2 reaches fixed points that repel, too. A search that has come
    to a small error ends there.
    """
    size = torch.linalg.vector_norm(codes, dim=1).median()
    points = misses = codes.new_empty((*codes.shape, 0))
    for _ in range(steps):
        if not len(codes):
            return
        again, small = candidates.iterate(codes, expert)
        points = torch.cat([points, codes[:, :, None]], dim=2)[~small, :, -3:]
        misses = torch.cat([misses, (again - codes)[:, :, None]], dim=2)[~small, :, -3:]
        codes = codes[~small] + accelerated(points, misses, size)


def accelerated(points: Tensor, misses: Tensor, size: Tensor) -> Tensor:
    """Return the next step `[n, b]` of Anderson acceleration (Walker & Ni 2011).

    Parameters
    ----------
    points, misses
        `[n, b, m]` the last m points x of each of n problems and f(x) - x at each.
    size
        No step is longer than this and twice the plain one.
    """
    step = miss = misses[:, :, -1]
    if points.shape[2] > 1:
        by_point, by_miss = points.diff(dim=2), misses.diff(dim=2)
        gram = by_miss.mT @ by_miss
        scale = gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
        regular = gram + (1e-6 * scale + 1e-300) * torch.eye(gram.shape[1], dtype=gram.dtype)
        mixed = torch.linalg.solve_ex(regular, by_miss.mT @ miss[:, :, None])[0]
        step = miss - ((by_point + by_miss) @ mixed)[:, :, 0]
        step = torch.where(torch.isfinite(step).all(dim=1)[:, None], step, miss)
    longest = 2 * torch.linalg.vector_norm(miss, dim=1) + size
    length = torch.linalg.vector_norm(step, dim=1).clamp(min=1e-300)
    return step * (longest / length).clamp(max=1)[:, None]
