"""States on the image of a decoder, off the support: the reward is high where they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from iirl_auditors.structure_aware.candidates import NO_EXPERTS, few, readable
from iirl_auditors.structure_aware.options import DecoderImageOptions
from iirl_engine import Auditor, Context
from iirl_engine.api import Autoencoders
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

_CODED = 64
_BATCH = 256


class DecoderImage(Auditor[DecoderImageOptions]):
    """Decodes codes drawn from the range of the demonstrations' codes, inflated more and less.

    Every state with a small error lies near the image of a decoder, which has few dimensions. Does
    nothing when the encoder has no autoencoders, and in up to four features.
    """

    family: Family = "adversarial"
    blind_to: ClassVar = NO_EXPERTS

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        read = readable(target)
        experts = target.autoencoders()
        if read is None or experts is None or few(target):
            return
        generator = context.torch_generator()
        expert_states = torch.tensor(target.demonstrations.states)
        rows = torch.randint(len(expert_states), (_CODED,), generator=generator)
        coded = [
            experts.code(expert_states[rows][: target.remaining], k)
            for k in range(experts.count)
            if target.remaining
        ]
        while target.remaining >= 2:
            for expert, codes in enumerate(coded):
                count = min(_BATCH, target.remaining // 2)
                if count:
                    states = drawn(experts, codes, expert, count, self.options.inflate, generator)
                    states = states[((states >= target.low) & (states <= target.high)).all(dim=1)]
                    forbidden = states[target.violation(states) > 0][: target.remaining]
                    if len(forbidden):
                        yield forbidden[target.reward(forbidden) > target.floor]


def drawn(
    experts: Autoencoders,
    codes: Tensor,
    expert: int,
    count: int,
    inflate: float,
    generator: torch.Generator,
) -> Tensor:
    """Return states decoded from `count` codes around the range of `codes [n, b]`.

    The range is inflated by a factor between 1 and `inflate`, uniform in its logarithm.
    """
    low, high = codes.amin(dim=0), codes.amax(dim=0)
    share = 2 * torch.rand(count, codes.shape[1], dtype=torch.float64, generator=generator) - 1
    stretch = torch.rand(count, 1, dtype=torch.float64, generator=generator)
    width = (high - low) / 2 * torch.exp(math.log(inflate) * stretch)
    return experts.decode((low + high) / 2 + width * share, expert)
