"""Which states around flaws and known-good states are flawed too, and which are allowed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import RewardModel
from iirl_engine.support import Support

Array = NDArray[np.float64]

# States are drawn at these shares of the gap between flaws and known-good states.
_SCALES = (0.125, 0.25, 0.5)
# So many states are drawn at each scale around a known-good state, and anywhere in the domain.
_AROUND_GOOD, _ANYWHERE = 32, 8_000
# So many steps from its nearest fellows to a known-good state are continued beyond it.
_STEPS = 16
# By this share of the step such a state is moved.
_MOVED = 0.05
# So many states are drawn in all, at most, and so many allowed ones are kept.
_DRAWS, _SPARED = 80_000, 8_000


class Neighbourhood(NamedTuple):
    """States that were drawn: `flawed [m, d]`, and `spared [a, d]`, which no norm forbids."""

    flawed: Array
    spared: Array


def neighbourhood(
    model: RewardModel,
    floor: float,
    flaws: Array,
    good: Array,
    gaps: Array,
    generator: np.random.Generator,
) -> Neighbourhood:
    """Draw states where a correction may matter, and tell flawed from allowed ones.

    Around the `flaws [m, d]`, around the `good [k, d]` states, one step beyond these, and
    anywhere; cut to the domain, whose faces then are sampled too. `gaps [m]` are the distances
    of the flaws to the nearest good state. Only endorsed states are returned.
    """
    drawn = np.concatenate(
        [
            _around(flaws, gaps, generator),
            _around(
                np.repeat(good, _AROUND_GOOD, axis=0),
                np.full(_AROUND_GOOD * len(good), 2 * np.quantile(gaps, 0.25)),
                generator,
            ),
            _beyond(good, generator),
            _anywhere(model, generator),
        ]
    )
    domain = model.domain
    drawn = generator.permutation(np.clip(drawn, domain.low, domain.high))
    with torch.no_grad():
        forbidden = (model.violation(torch.from_numpy(drawn)) > 0).numpy()
    flawed, spared = drawn[forbidden], drawn[~forbidden][:_SPARED]
    return Neighbourhood(*(states[model(states) > floor] for states in (flawed, spared)))


def _around(centers: Array, gaps: Array, generator: np.random.Generator) -> Array:
    """Return states drawn around each centre at every scale."""
    most = _DRAWS // (2 * len(_SCALES))
    if len(centers) > most:
        rows = generator.choice(len(centers), most, replace=False)
        centers, gaps = centers[rows], gaps[rows]
    drawn = [
        centers + scale * gaps[:, None] * generator.standard_normal(centers.shape)
        for scale in _SCALES
    ]
    return np.concatenate(drawn)


def _beyond(good: Array, generator: np.random.Generator) -> Array:
    """Return g + (g - q) for good states g and their nearest fellows q: where data end.

    Each comes twice, once moved a little, so that it is worth a correction of its own.
    """
    most = _DRAWS // (4 * _STEPS)
    if len(good) > most:
        good = good[generator.choice(len(good), most, replace=False)]
    steps = min(_STEPS, len(good) - 1)
    if steps < 1:
        return good
    _, rows = Support(good).neighbours(torch.tensor(good), steps + 1)
    step = (good[:, None] - good[rows.numpy()[:, 1:]]).reshape(-1, good.shape[1])
    beyond = np.repeat(good, steps, axis=0) + step
    moved = _MOVED * np.abs(step).max(axis=1, keepdims=True)
    return np.concatenate([beyond, beyond + moved * generator.standard_normal(beyond.shape)])


def _anywhere(model: RewardModel, generator: np.random.Generator) -> Array:
    domain = model.domain
    return generator.uniform(domain.low, domain.high, (_ANYWHERE, model.width))
