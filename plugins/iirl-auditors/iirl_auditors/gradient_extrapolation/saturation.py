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
from iirl_engine import Auditor, Concern, Context
from iirl_engine.demonstrations import episode_starts
from iirl_engine.evaluation.saturation import is_flat, ways
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

Array = NDArray[np.float64]

_PAIRS = 32


class Saturation(Auditor[SaturationOptions]):
    """Looks for a slope on straight ways to the demonstrations, from starts and from anywhere.

    Ways lead in turn from the first states of the demonstrations' episodes, where these are
    known, and from uniform states of the domain. A plateau of high reward off the support is a
    flaw: every state on the way that is endorsed and forbidden is reported. That a learner finds
    nothing to climb is a concern.
    """

    family: Family = "gradient-extrapolation"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor | Concern]:
        generator = context.generator()
        experts, points = target.demonstrations.states, self.options.places
        sources, flat, differ = dict(_starts(target, generator)), list[Tensor](), False
        for name in itertools.cycle(sources):
            if target.remaining < 2:
                break
            pairs = max(1, min(target.remaining // (2 * points), _PAIRS))
            places = torch.tensor(ways(sources[name], experts, pairs, points, generator))
            places = places.reshape(-1, experts.shape[1])[: target.remaining // 2]
            reward, gradient = target.reward_and_gradient(places)
            yield places[(reward > target.floor) & (target.violation(places) > 0)]
            if name == next(iter(sources)):
                flat.append(is_flat(gradient, experts))
                differ |= bool((reward != reward[0]).any() and not gradient.any())
        # A reward that differs and has no gradient anywhere does not tell it.
        if flat and not differ:
            yield from self._told(next(iter(sources)), torch.cat(flat))

    def _told(self, name: str, flat: Tensor) -> Iterator[Concern]:
        share = float(flat.double().mean())
        if share >= self.options.share:
            yield Concern(
                "no-slope",
                f"On {share:.0%} of the straight ways from {name} to the demonstrations the reward "
                "is flat: a learner finds nothing to climb there.",
                {"flat": share, "places": len(flat)},
            )


def _starts(target: Target, generator: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Yield the states `[k, d]` that each kind of way begins in, those of episodes first."""
    known = episode_starts(target.demonstrations)
    if len(known):
        yield "starts of episodes", known
    low, high = target.low.numpy(), target.high.numpy()
    yield "anywhere", generator.uniform(low, high, size=(target.budget, len(low)))
