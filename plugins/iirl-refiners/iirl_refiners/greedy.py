"""The baseline: one Gaussian kernel per flaw, wider the farther out the flaw lies.

The rule of "Alignment Flywheel-Guided Suppression Patching" (RL Conference 2026 workshop): the
bandwidth is half of how far the flaw lies beyond the boundary, within limits, and shrinks until
the kernels of the batch together suppress no known-good state by more than the cap. The cap
holds per batch, so that losses add up over rounds; gate `known-good` notices, this rule does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from iirl_engine import Context, Kernels, Refiner, Repair
from iirl_engine.corrections.base import Correction
from iirl_refiners.options import KernelGreedyOptions

Array = NDArray[np.float64]


class KernelGreedy(Refiner[KernelGreedyOptions]):
    """Goes through the flaws in order and covers each that no kernel of the batch covers yet."""

    def propose(self, repair: Repair, context: Context) -> Sequence[Correction]:
        flaws, good = repair.flaws, repair.known_good
        rewards = repair.model(flaws.states)
        covered, taken = np.zeros(len(flaws)), np.zeros(len(good))
        centers, widths = [], []
        for row in range(len(flaws)):
            if len(centers) == self.options.max_corrections:
                break
            if rewards[row] - covered[row] <= repair.floor:
                continue
            center = flaws.states[row]
            apart = cdist(center[None], good)[0]
            width = self._bandwidth(float(flaws.violations[row]), apart, taken)
            if width is None:
                continue
            centers.append(center)
            widths.append(width)
            taken += _gaussian(apart, width)
            covered += _gaussian(cdist(center[None], flaws.states)[0], width)
        if not centers:
            return ()
        return (
            Kernels(
                id=f"r{context.round}-{context.id}",
                refiner=context.id,
                round=context.round,
                centers=np.array(centers),
                radii=np.array(widths),
                strengths=np.ones(len(widths)),
                profile="gaussian",
            ),
        )

    def _bandwidth(self, beyond: float, apart: Array, taken: Array) -> float | None:
        """Return the kernel's bandwidth, or None when no permitted one keeps the cap.

        Parameters
        ----------
        beyond
            How far the flaw lies beyond the limit of its norm.
        apart
            `[k]` distance of the flaw to each known-good state.
        taken
            `[k]` what the batch takes off each of them so far.
        """
        least, cap = self.options.min_bandwidth, self.options.max_loss
        safe = 0.9 * float(apart.min()) / math.sqrt(-2 * math.log(cap))
        width = max(least, min(0.5 * beyond, self.options.max_bandwidth, safe))
        if _peak(taken, apart, width) <= cap:
            return width
        if _peak(taken, apart, least) > cap:
            return None
        low, high = least, width
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (middle, high) if _peak(taken, apart, middle) <= cap else (low, middle)
        return low


def _gaussian(apart: Array, width: float) -> Array:
    return np.exp(-(apart**2) / (2 * width**2))


def _peak(taken: Array, apart: Array, width: float) -> float:
    return float((taken + _gaussian(apart, width)).max())
