"""Places where the reward is flat although a learner needs a slope to the demonstrations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_auditors.gradient_extrapolation.options import SaturationOptions
from iirl_engine import Auditor, Context
from iirl_engine.demonstrations import episode_starts
from iirl_engine.evaluation.saturation import ways
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.audit import Target

_PAIRS = 32


class Saturation(Auditor[SaturationOptions]):
    """Looks for a slope on straight ways to the demonstrations, from starts and from anywhere.

    Ways lead in turn from the first states of the demonstrations' episodes, where these are
    known, and from uniform states of the domain. A plateau of high reward off the support is a
    flaw: every state on the way that is endorsed and forbidden is reported.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.generator()
        experts, points = target.demonstrations.states, self.options.places
        for starts in itertools.cycle(_starts(target, generator)):
            if target.remaining < 2:
                return
            pairs = max(1, min(target.remaining // (2 * points), _PAIRS))
            places = torch.tensor(ways(starts, experts, pairs, points, generator))
            places = places.reshape(-1, experts.shape[1])[: target.remaining // 2]
            reward, _ = target.reward_and_gradient(places)
            yield places[(reward > target.floor) & (target.violation(places) > 0)]


def _starts(target: Target, generator: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield the states `[k, d]` that each kind of way begins in."""
    known = episode_starts(target.demonstrations)
    if len(known):
        yield known
    low, high = target.low.numpy(), target.high.numpy()
    yield generator.uniform(low, high, size=(target.budget, len(low)))
