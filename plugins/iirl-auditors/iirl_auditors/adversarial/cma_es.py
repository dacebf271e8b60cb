"""CMA-ES: evolution of a normal distribution, for rewards whose gradient is of no use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cmaes
import numpy as np
import torch
from torch import Tensor

from iirl_auditors.adversarial.objective import Margins
from iirl_auditors.adversarial.options import CmaEsOptions
from iirl_auditors.adversarial.starts import Starts
from iirl_engine import Auditor, Context
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

# Wider states get a diagonal covariance.
_FULL = 12


class CmaEs(Auditor[CmaEsOptions]):
    """Restarts CMA-ES (Hansen 2016; library cmaes) from a portfolio of starts.

    With a diagonal covariance (Ros & Hansen 2008) above 12 features.
    """

    family: Family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        generator = context.generator()
        portfolio, margins = Starts(target, context.torch_generator()), Margins(target)
        low, width = target.low.numpy(), (target.high - target.low).numpy()
        # The library evolves two dimensions or more; a second one of a single feature is idle.
        dimensions = max(2, len(low))
        kind_of = cmaes.CMA if dimensions <= _FULL else cmaes.SepCMA
        while target.remaining:
            start, kind = portfolio.draw(1)
            search = kind_of(
                mean=np.resize((start[0].numpy() - low) / width, dimensions),
                sigma=self.options.sigma,
                bounds=np.stack([np.zeros(dimensions), np.ones(dimensions)], axis=1),
                seed=int(generator.integers(2**31)),
            )
            for _ in range(self.options.generations):
                asked = [search.ask() for _ in range(min(search.population_size, target.remaining))]
                if not asked:
                    return
                states = torch.from_numpy(low + width * np.stack(asked)[:, : len(low)])
                states = states.clamp(target.low, target.high)
                value, flaw = margins.value(states)
                if flaw.any():
                    portfolio.found(states[flaw][:1], kind)
                    yield states[flaw]
                    break
                if len(asked) < search.population_size:
                    return
                search.tell(list(zip(asked, (-value).tolist(), strict=True)))
                if search.should_stop():
                    break
