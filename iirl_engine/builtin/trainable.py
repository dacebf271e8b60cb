"""The gate `trainable`: a learner goes on finding its way to the demonstrations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import TrainableOptions
from iirl_engine.demonstrations import episode_starts
from iirl_engine.evaluation.saturation import is_flat, ways
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

PAIRS, POINTS = 256, 16


class Trainable(Gate[TrainableOptions]):
    """Refuses a candidate that is flatter, or less often uphill, on the way to the demonstrations.

    Compared with release 0 at evenly spread places on the straight ways from start states to
    expert states, where no norm forbids them: the share of places where the reward is flat, and
    where it does not rise towards the expert state. Start states are the first of each episode;
    where no episodes are known, states drawn uniformly in the domain.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        model, generator = candidate.model, context.generator()
        starts = episode_starts(model.demonstrations)
        if not len(starts):
            low, high = model.domain.low, model.domain.high
            starts = generator.uniform(low, high, (PAIRS, model.width))
        places = ways(starts, model.demonstrations.states, PAIRS, POINTS, generator)
        # The way from one place to the next is the direction to the expert state.
        towards = np.repeat(places[:, -1:] - places[:, :1], POINTS, axis=1).reshape(-1, model.width)
        states = places.reshape(-1, model.width)
        with torch.no_grad():
            allowed = (model.violation(torch.tensor(states)) <= 0).numpy()
        if not allowed.any():
            return Judgement(context.id, True, {"places": 0.0})
        states, towards = states[allowed], towards[allowed]
        before, after = (_shares(m, states, towards) for m in (evidence.before, model))
        numbers = {"places": float(len(states))}
        reasons = []
        for name, was, now in zip(("flat", "not_uphill"), before, after, strict=True):
            numbers |= {f"{name}_before": was, name: now}
            if now - was > self.options.max_rise:
                reasons.append(
                    f"the share of places that are {name.replace('_', ' ')} rises from {was:.1%} "
                    f"in release 0 to {now:.1%}"
                )
        return Judgement(context.id, not reasons, numbers, "; ".join(reasons))


def _shares(model: RewardModel, states: Array, towards: Array) -> tuple[float, float]:
    """Return the shares of `states [n, d]` where the reward is flat, and not uphill."""
    _, gradient = model.reward_and_gradient(torch.tensor(states))
    uphill = (gradient * torch.tensor(towards)).sum(dim=1) > 0
    flat = is_flat(gradient, model.demonstrations.states)
    return float(flat.double().mean()), float((~uphill).double().mean())
