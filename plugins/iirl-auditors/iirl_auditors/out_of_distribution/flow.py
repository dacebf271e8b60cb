"""Out of the distribution: unlikely under a normalizing flow, a network with an exact density."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from iirl_auditors.out_of_distribution.detecting import Array, Detecting, Score
from iirl_auditors.out_of_distribution.options import FlowOptions
from iirl_engine.errors import PluginError

_BATCH = 256
_LEARNING_RATE = 3e-3
# Deviation of the noise on expert states, in their own: without it the density of states on a
# curve has no bound.
_NOISE = 0.01


class Flow(Detecting[FlowOptions]):
    """Scores a state by minus its log density under a masked autoregressive flow, by zuko.

    Follows curved and multimodal support, given some thousand states (Papamakarios, Pavlakou &
    Murray. NeurIPS 2017).

    Raises
    ------
    PluginError
        When zuko is not installed.
    """

    def detector(self, states: Array, seed: int) -> Score:
        flow = self._trained(torch.tensor(states), seed)

        def score(asked: Array) -> Array:
            with torch.no_grad():
                density: Array = flow().log_prob(torch.tensor(asked)).numpy()
            # So far out that the density overflows is as unlike as can be.
            return np.where(np.isnan(density), np.inf, -density)

        return score

    def _trained(self, states: torch.Tensor, seed: int) -> Any:
        flow = _drawn(self.options, states.shape[1], seed)
        generator = torch.Generator().manual_seed(seed)
        descent = torch.optim.Adam(flow.parameters(), lr=_LEARNING_RATE)
        size = min(_BATCH, len(states))
        for _ in range(self.options.steps):
            rows = torch.randint(len(states), (size,), generator=generator)
            noise = torch.randn(size, states.shape[1], dtype=torch.float64, generator=generator)
            with torch.enable_grad():
                loss = -flow().log_prob(states[rows] + _NOISE * noise).mean()
                descent.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            descent.step()
        return flow


def _drawn(options: FlowOptions, width: int, seed: int) -> Any:
    """Return zuko's flow over `width` features, its parameters drawn from a seed."""
    try:
        import zuko  # type: ignore[import-untyped]
    except ImportError as error:
        raise PluginError(
            "auditor flow needs zuko, which is not installed",
            got=error,
            next_step="pip install 'iirl-auditors[flow]'",
        ) from error
    # zuko draws from torch's global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        flow = zuko.flows.MAF(
            width, transforms=options.transforms, hidden_features=(options.hidden, options.hidden)
        )
    return flow.double()
