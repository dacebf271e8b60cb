"""Why a state gets its reward: what it was at first, and what each correction took off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.corrections.base import View
from iirl_engine.corrections.revision import Revision

if TYPE_CHECKING:
    from iirl_engine.reward import RewardModel


@attrs.frozen(eq=False)
class Explanation:
    """Why one state gets its reward.

    Parameters
    ----------
    reward
        What the model answers.
    loss
        Expertness loss L.
    base
        Reward before corrections, g(L).
    corrections
        (id, what it takes off, below 0 when it lifts), for each correction that changes anything.
    nearest_state
        `[d]` nearest expert state.
    distance
        Euclidean distance to it.
    violated
        (norm id, by how much), for each norm that forbids the state.
    uncertainty
        u(s), from 0 to 1: the share of held-out demonstrations that are more certain.
    coverage
        From 0 to 1: how thoroughly audits probed the neighbourhood; c_a(s) is 1 - coverage.
    strength
        β(s, 0): how strongly the schedule applies the reward at first.
    """

    reward: float
    loss: float
    base: float
    corrections: tuple[tuple[str, float], ...]
    nearest_state: tuple[float, ...]
    distance: float
    violated: tuple[tuple[str, float], ...]
    uncertainty: float
    coverage: float
    strength: float

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl explain --json` prints per state."""
        return {
            "reward": self.reward,
            "loss": _finite(self.loss),
            "base": _finite(self.base),
            "corrections": {name: _finite(taken) for name, taken in self.corrections},
            "nearest_state": list(self.nearest_state),
            "distance": _finite(self.distance),
            "violated": {norm: _finite(by) for norm, by in self.violated},
            "uncertainty": self.uncertainty,
            "coverage": self.coverage,
            "strength": self.strength,
        }


def explain(model: RewardModel, states: NDArray[np.float64]) -> list[Explanation]:
    """Return, for each of the states `[n, d]`, why a model gives it its reward."""
    if len(states) == 0:
        return []
    with torch.no_grad():
        given = torch.tensor(states)
        rewards = model.reward(given)
        known = torch.where(torch.isfinite(given).all(dim=1)[:, None], given, 0.0)
        view = model.view(known)
        loss, base = view.loss, _learned_base(model, view)
        taken = [part.numpy() for part in _shares(model, view)]
        violations = {name: v.numpy() for name, v in model.violations(given).items()}
        distance, nearest = model.demonstrations.support.nearest(known)
        uncertainty, coverage = model.uncertainty(given), model.coverage(given)
        strength = model.strength(known, torch.zeros(len(known), dtype=torch.float64))
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(states).all(axis=1))
    expert = model.demonstrations.states[nearest.numpy()]
    return [
        Explanation(
            reward=float(rewards[i]),
            loss=float(loss[i]) if finite[i] else float("inf"),
            base=float(base[i]) if finite[i] else 0.0,
            corrections=tuple(
                (c.id, float(t[i]))
                for c, t in zip(model.corrections, taken, strict=True)
                if finite[i] and t[i] != 0
            ),
            nearest_state=tuple(expert[i].tolist()),
            distance=float(distance[i]) if finite[i] else float("inf"),
            violated=tuple((n, float(v[i])) for n, v in violations.items() if v[i] > 0),
            uncertainty=float(uncertainty[i]),
            coverage=float(coverage[i]),
            strength=float(strength[i]),
        )
        for i in range(len(states))
    ]


def _learned_base(model: RewardModel, view: View) -> Tensor:
    """Return the reward before any correction, also where a revision changed it."""
    if (model.encoder, model.mapping) == model.learned:
        return view.base
    return model.evolve(corrections=()).base(view.states)


def _shares(model: RewardModel, view: View) -> list[Tensor]:
    """Return what each correction takes off, `[n]`; a revision, what it takes off the base."""
    shares = []
    for number, correction in enumerate(model.corrections):
        taken = correction.suppression(view)
        if isinstance(correction, Revision):
            before, after = (
                model.evolve(corrections=model.corrections[:until]).base(view.states)
                for until in (number, number + 1)
            )
            taken = before - after
        shares.append(taken)
    return shares


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold; None stands for infinitely much."""
    return value if math.isfinite(value) else None
