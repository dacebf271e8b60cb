"""Probes of the reward's own corrections: centres and seams of kernels, rims of cuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, TypeGuard

import torch
from torch import Tensor

from iirl_auditors.structure_aware.options import CorrectionProbeOptions
from iirl_engine import Auditor, Context, Correction, Cut, Fade, Kernels
from iirl_engine.audit import Undecided
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_BATCH = 1024
# Probes stand at these multiples of a kernel's radius.
_SHELLS = (0.5, 0.9, 1.1)
# And at these multiples of its width inside a cut's planes.
_INSIDE = (0.5, 1.0, 1.5)


class CorrectionProbe(Auditor[CorrectionProbeOptions]):
    """Asks about every kernel's centre, the middle of near pairs, shells, and the rims of cuts.

    A needle that a list of corrections holds cannot be found by searching; the list names it.
    Where a correction names no states the audit ends `undecided`.
    """

    family: Family = "adversarial"
    exhaustive = True
    blind_to: ClassVar = dict.fromkeys(
        ("Cliff", "Flat", "Spike", "Noisy"), "the reward has no corrections to read"
    )

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.torch_generator()
        experts = torch.tensor(target.demonstrations.states)
        # A reward that cannot be evaluated is never called clean for want of corrections.
        target.reward(experts[:1])
        kernels = [c for c in target.corrections if _in_state_space(c)]
        if kernels:
            centers = torch.cat([torch.tensor(c.centers) for c in kernels])
            radii = torch.cat([torch.tensor(c.radii) for c in kernels])
            for probes in (centers, seams(centers, radii)):
                yield from _asked(target, probes)
        for cut in (c for c in target.corrections if isinstance(c, Cut)):
            for some in torch.split(experts, _BATCH):
                yield from _asked(target, rims(cut, some))
        while kernels and target.remaining:
            before = target.remaining
            for share in _SHELLS:
                outward = torch.randn(centers.shape, dtype=torch.float64, generator=generator)
                outward /= torch.linalg.vector_norm(outward, dim=1, keepdim=True)
                yield from _asked(target, centers + share * radii[:, None] * outward)
            if target.remaining == before:
                break
        if unread := [c.id for c in target.corrections if not _read(c)]:
            raise Undecided(f"these corrections name no states to look at: {', '.join(unread)}")


def _in_state_space(correction: Correction) -> TypeGuard[Kernels]:
    kernels = isinstance(correction, Kernels) and correction.count > 0
    return kernels and correction.space == "state"


def _read(correction: Correction) -> bool:
    return (
        isinstance(correction, Fade | Cut) or correction.count == 0 or _in_state_space(correction)
    )


def rims(cut: Cut, states: Tensor) -> Tensor:
    """Return states right inside each plane of a cut, nearest to `states [n, d]`, `[m, d]`."""
    found = []
    for a, b, width in zip(cut.normals, cut.offsets, cut.widths, strict=True):
        normal = torch.tensor(a)
        beyond = (states * normal).sum(dim=1) - b
        for share in _INSIDE:
            step = (beyond + share * width) / normal.square().sum()
            found.append(states - step[:, None] * normal)
    return torch.cat(found)


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
