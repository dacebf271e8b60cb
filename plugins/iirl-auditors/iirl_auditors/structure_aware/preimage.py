"""The preimage of a full reward: codes whose state an autoencoder gets exactly right.

The mapping gives its highest reward to a loss of 0. Levenberg's and Marquardt's method solves
D_k(z) = D_k(E_k(D_k(z))) for the code z from anywhere, also where no plain iteration arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from iirl_auditors.structure_aware.candidates import NO_EXPERTS, Candidates, Enough, few, readable
from iirl_auditors.structure_aware.options import PreimageOptions
from iirl_auditors.structure_aware.valleys import jacobians
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_FEWEST, _MOST = 8, 64


class Preimage(Auditor[PreimageOptions]):
    """Solves for states without error from uniform starts, with every autoencoder in turn.

    Does nothing when the encoder has no autoencoders, and in up to four features.
    """

    family: Family = "adversarial"
    blind_to: ClassVar = NO_EXPERTS

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        read = readable(target)
        if read is None or few(target):
            return
        experts, _ = read
        generator = context.torch_generator()
        candidates = Candidates(target, experts, context.generator())
        count = _FEWEST
        try:
            while True:
                for expert in range(experts.count):
                    starts = candidates.uniform(count, expert, generator)
                    solve(candidates, starts, expert, self.options.steps)
                    yield from candidates.learn()
                count = min(2 * count, _MOST)
        except Enough:
            yield from candidates.learn()
        yield from candidates.report()


def solve(candidates: Candidates, codes: Tensor, expert: int, steps: int) -> None:
    """Take so many damped Gauss-Newton steps (Marquardt 1963) from `codes [n, b]`, all at once."""
    damping = torch.full((len(codes), 1, 1), 1e-2, dtype=torch.float64)
    for _ in range(steps):
        _, by_error, wrong = jacobians(candidates, codes, expert)
        normal = by_error.mT @ by_error
        diagonal = torch.diag_embed(normal.diagonal(dim1=1, dim2=2) + 1e-12)
        downhill = by_error.mT @ wrong[:, :, None]
        step = torch.linalg.solve_ex(normal + damping * diagonal, downhill)[0][:, :, 0]
        tried = codes - torch.where(torch.isfinite(step), step, 0.0)
        states, left, _ = candidates.error(tried, expert)
        candidates.gather(states, left, tried, expert)
        better = left.square().sum(dim=1) < wrong.square().sum(dim=1)
        codes = torch.where(better[:, None], tried, codes)
        damping = damping * torch.where(better, 0.3, 4.0)[:, None, None]
