"""A boundary between known-good states and flaws: no reward beyond planes learned from both."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Context, Proposal, Refiner, Repair
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.fade import smooth
from iirl_refiners.options import HalfspacesOptions
from iirl_refiners.protected import protected
from iirl_refiners.separation import Plane, covering_planes

Array = NDArray[np.float64]

# A fade is at least this wide where known-good states allow it, in their standard deviations.
_SMOOTH = 0.25
# Of the mean reward of known-good states, what the fade inside one plane may take.
_MEAN = 1e-3
_NARROWEST = 1e-6
# A feature that hardly differs among known-good states is scaled by what it is among all.
_CONSTANT = 1e-6


class Halfspaces(Refiner[HalfspacesOptions]):
    """Learns planes with no known-good state beyond them, and takes the base reward there."""

    def propose(self, repair: Repair, context: Context) -> Proposal:
        good, allowed, base = protected(repair, self.options.max_loss)
        if not len(good) or not len(repair.flaws):
            return Proposal()
        center, spread = _scale(good, repair.flaws.states)
        planes, rest = covering_planes(
            (repair.flaws.states - center) / spread,
            (good - center) / spread,
            self.options.min_flaws,
            self.options.max_corrections,
        )
        reason = "no plane cuts it off from every known-good state together with enough others"
        left = dict.fromkeys(rest.tolist(), reason)
        if not planes:
            return Proposal(left=left)
        scaled = (good - center) / spread
        widths = [widest(plane, scaled, base, allowed) for plane in planes]
        cut = Cut(
            id=f"r{context.round}-{context.id}",
            refiner=context.id,
            round=context.round,
            normals=np.array([p.normal / spread for p in planes]),
            offsets=np.array([p.offset + p.normal @ (center / spread) for p in planes]),
            widths=np.array(widths),
        )
        return Proposal((cut,), closes=len(repair.flaws) - len(rest), left=left)


def widest(plane: Plane, good: Array, base: Array, allowed: Array) -> float:
    """Return how wide the reward may fade inside a plane, in the units of its normal.

    From the last known-good state on, or from deeper within where that is too steep: as far as
    no state of `good [k, d]` with base reward `base [k]` loses more than `allowed [k]`, nor all
    of them together more than a thousandth.
    """
    along = good @ plane.normal
    gap = plane.offset - plane.edge
    most = max(gap, _SMOOTH * float(along.std()))

    def spares(width: float) -> bool:
        share = smooth(torch.from_numpy((along - plane.offset) / width + 1)).numpy()
        lost = base * share
        return bool((lost <= allowed).all() and lost.sum() <= _MEAN * base.sum())

    if spares(most):
        return most
    low, high = min(gap, most) * _NARROWEST, most
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if spares(middle) else (low, middle)
    return low


def _scale(good: Array, flaws: Array) -> tuple[Array, Array]:
    """Return centre and spread `[d]` of known-good states, above 0."""
    center, spread = np.median(good, axis=0), good.std(axis=0)
    among_all = np.concatenate([good, flaws]).std(axis=0)
    among_all = np.where(among_all > 0, among_all, 1.0)
    return center, np.where(spread > _CONSTANT * among_all, spread, among_all)
