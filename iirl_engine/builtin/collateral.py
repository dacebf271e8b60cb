"""The gate `collateral`: what nobody labelled keeps its reward."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import CollateralOptions
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.regions import region_scale
from iirl_engine.reward import RewardModel
from iirl_engine.support import Support

Array = NDArray[np.float64]

# A state this many scales of a region from every flaw is far from them.
_NEAR = 2.0


class Collateral(Gate[CollateralOptions]):
    """Refuses a candidate that changes the reward of states that no norm forbids and nobody named.

    Half of the states are drawn uniformly in the domain, half around known-good ones, at the scale
    of regions; those that a norm forbids are left out. Those near a flaw and those far from all are
    counted apart: the mean change of the reward since release 0, up or down, has a cap for each.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        model, scale = candidate.model, region_scale(candidate.model)
        states = _unlabelled(model, evidence.known_good, self.options.states, scale, context)
        change = np.abs(model(states) - evidence.before(states))
        near = np.zeros(len(states), dtype=np.bool_)
        if len(evidence.flaws) and len(states):
            apart = Support(evidence.flaws.states).distance(torch.tensor(states)).numpy()
            near = apart <= _NEAR * scale
        numbers, reasons = {}, []
        for name, rows, cap in (
            ("near", near, self.options.max_near),
            ("far", ~near, self.options.max_far),
        ):
            mean = float(change[rows].mean()) if rows.any() else 0.0
            numbers[f"{name}_states"] = float(rows.sum())
            numbers[f"{name}_mean"] = mean
            numbers[f"{name}_worst"] = float(change[rows].max(initial=0.0))
            if mean > cap:
                reasons.append(
                    f"allowed states {name} {'a flaw' if rows is near else 'from every flaw'} "
                    f"change by {mean:.3g} on average, more than {cap:g}"
                )
        return Judgement(context.id, not reasons, numbers, "; ".join(reasons))


def _unlabelled(
    model: RewardModel, known_good: Array, count: int, scale: float, context: Context
) -> Array:
    """Return states `[n, d]`, n <= count, that no norm forbids."""
    generator = context.generator()
    low, high = np.array(model.domain.low), np.array(model.domain.high)
    anywhere = generator.uniform(low, high, (count - count // 2, model.width))
    rows = generator.integers(len(known_good), size=count // 2)
    noise = generator.standard_normal((count // 2, model.width)) / np.sqrt(model.width)
    around = np.clip(known_good[rows] + scale * noise, low, high)
    states: Array = np.concatenate([anywhere, around])
    with torch.no_grad():
        allowed = (model.violation(torch.tensor(states)) <= 0).numpy()
    kept: Array = states[allowed]
    return kept
