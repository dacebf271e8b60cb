"""Flawed regions that known-good states surround: balls that reach as far as these allow.

The dual of support vector data description (Tax and Duin, "Support vector data description",
Machine Learning 2004): there a ball encloses what is good; here it encloses flaws and ends at the
nearest known-good state. Where one ball cannot hold a group of flaws the group is halved.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from iirl_engine import Context, Kernels, Proposal, Refiner, Repair
from iirl_refiners.options import EnclosingBallsOptions
from iirl_refiners.protected import protected
from iirl_refiners.separation import halved

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# The share of a ball's radius within which the reward is gone: at most, and where flaws allow.
_FULLEST, _FULL = 0.9, 0.75
# Suppression beyond a reward of 1, so that rounding leaves none.
_MARGIN = 1.05


@attrs.frozen(eq=False)
class Ball:
    """A ball of flaws: its centre `[d]`, its radius, and the share of it that is to close."""

    center: Array
    radius: float
    share: float


class EnclosingBalls(Refiner[EnclosingBallsOptions]):
    """Covers the regions that the flaws are samples of, up to the nearest known-good state."""

    def propose(self, repair: Repair, context: Context) -> Proposal:
        good, _, _ = protected(repair, self.options.max_loss)
        if not len(repair.flaws):
            return Proposal()
        balls, rest = enclosing_balls(repair.flaws.states, good, _domain_size(repair))
        most = self.options.max_corrections
        left = dict.fromkeys(rest.tolist(), "it is a known-good state, or as good as one")
        if not balls:
            return Proposal(left=left)
        balls = sorted(balls, key=lambda ball: -ball.radius)[:most]
        centers = np.array([ball.center for ball in balls])
        share = np.array([ball.share for ball in balls])
        height = (1 - share) ** 4 * (4 * share + 1)  # the Wendland profile there
        kernels = Kernels(
            id=f"r{context.round}-{context.id}",
            refiner=context.id,
            round=context.round,
            centers=centers,
            radii=np.array([ball.radius for ball in balls]),
            strengths=_MARGIN / height,
        )
        return Proposal((kernels,), left=left)


def enclosing_balls(flaws: Array, good: Array, largest: float) -> tuple[list[Ball], Rows]:
    """Return balls that hold all flaws and no known-good state, and the rows that none can hold.

    A ball of n flaws is centred on their mean and ends at the nearest known-good state, or at
    `largest`. The flaws' own radius, and a share 1 / sqrt(n) more for those not yet seen, has to
    lie within 0.9 of that; otherwise the flaws are halved by 2-means.
    """
    balls, rest = list[Ball](), list[int]()
    queue = [np.arange(len(flaws))]
    while queue:
        rows = queue.pop(0)
        center = flaws[rows].mean(axis=0)
        apart = cdist(center[None], good).min() if len(good) else largest
        reach = min(float(apart), largest)
        own = float(cdist(center[None], flaws[rows]).max()) if len(rows) > 1 else 0.0
        wanted = own * (1 + len(rows) ** -0.5)
        if reach > 0 and wanted <= _FULLEST * reach:
            share = float(np.clip(wanted / reach, _FULL, _FULLEST))
            balls.append(Ball(center, reach, share))
        elif parts := halved(flaws, rows):
            queue.extend(parts)
        else:
            rest.extend(rows.tolist())
    return balls, np.array(rest, dtype=np.int64)


def _domain_size(repair: Repair) -> float:
    """Return the diagonal of the domain: no ball needs to be larger."""
    domain = repair.model.domain
    return float(np.linalg.norm(np.array(domain.high) - np.array(domain.low)))
