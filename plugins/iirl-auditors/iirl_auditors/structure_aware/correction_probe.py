"""Probes of the reward's own corrections: their centres, and the seams between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from iirl_auditors.structure_aware.options import CorrectionProbeOptions
from iirl_engine import Auditor, Context
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_BATCH = 1024
# Probes stand at these multiples of a kernel's radius.
_SHELLS = (0.5, 0.9, 1.1)


class CorrectionProbe(Auditor[CorrectionProbeOptions]):
    """Asks about every kernel's centre, the middle of near pairs, and shells around the rim.

    A needle that a list of corrections holds cannot be found by searching; the list names it.
    """

    family: Family = "adversarial"
    blind_to: ClassVar = dict.fromkeys(
        ("Cliff", "Flat", "Spike", "Noisy"), "the reward has no corrections to read"
    )

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        kernels = [c for c in target.corrections if isinstance(c, Kernels) and c.count]
        # A reward that cannot be evaluated is never called clean for want of corrections.
        target.reward(torch.tensor(target.demonstrations.states[:1]))
        if not kernels or not target.remaining:
            return
        centers = torch.cat([torch.tensor(c.centers) for c in kernels])
        radii = torch.cat([torch.tensor(c.radii) for c in kernels])
        for probes in (centers, seams(centers, radii)):
            yield from _asked(target, probes)
        while target.remaining:
            before = target.remaining
            for share in _SHELLS:
                outward = torch.randn(centers.shape, dtype=torch.float64, generator=generator)
                outward /= torch.linalg.vector_norm(outward, dim=1, keepdim=True)
                yield from _asked(target, centers + share * radii[:, None] * outward)
            if target.remaining == before:
                return


def seams(centers: Tensor, radii: Tensor) -> Tensor:
    """Return the middle between each kernel's centre `[k, d]` and the nearest other one's.

    Where kernels overlap the suppression is patched together, and thinnest on the seam; each
    middle is weighed by the radii.
    """
    if len(centers) < 2:
        return centers[:0]
    middles = []
    for rows in torch.split(torch.arange(len(centers)), _BATCH):
        apart = torch.cdist(centers[rows], centers)
        apart[torch.arange(len(rows)), rows] = torch.inf
        other = apart.argmin(dim=1)
        share = (radii[rows] / (radii[rows] + radii[other]))[:, None]
        middles.append(centers[rows] + share * (centers[other] - centers[rows]))
    return torch.cat(middles)


def _asked(target: Target, probes: Tensor) -> Iterator[Tensor]:
    inside = ((probes >= target.low) & (probes <= target.high)).all(dim=1)
    probes = probes[inside]
    for part in torch.split(probes[target.violation(probes) > 0], _BATCH):
        part = part[: target.remaining]
        if len(part):
            yield part[target.reward(part) > target.floor]
