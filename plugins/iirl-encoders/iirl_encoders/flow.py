"""Expertness by likelihood: a normalizing flow, an invertible network with an exact density.

The loss is how much less likely a state is than the likeliest demonstration, in nats:

    L(s) = max(0, max_i log p(s_i) - log p(s))

p is a masked autoregressive flow (MAF: Papamakarios et al., NeurIPS 2017), by the library zuko: the
scale and shift of each feature follow from the features before it. A flow may rise again where it
saw no states, so it is asked no farther than the range of the expert states widened by 50 %; from
there log p falls by half the squared distance, in standard deviations, as a Gaussian's would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iirl_encoders import networks
from iirl_encoders.options import FlowOptions
from iirl_encoders.reach import Reach
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, Demonstrations, Encoder
from iirl_engine.errors import PluginError


class Flow(Encoder[FlowOptions]):
    """Maximises the likelihood of expert states, weighted by β, with Adam.

    Raises
    ------
    PluginError
        When it is fitted or restored and zuko is not installed.
    """

    abilities = Abilities(incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        self._scale = Scale.standard(states)
        self._reach = Reach.of(self._scale(states))
        generator = context.torch_generator()
        seed = int(torch.randint(2**62, (), generator=generator))
        self._flow = _drawn(self.options, states.shape[1], seed)
        self._train(demonstrations, generator)

    def encode(self, states: Tensor) -> Code:
        base, log_density = self._density(self._scale(states))
        return Code(base, (self._most - log_density).clamp(min=0))

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        scaled = self._scale(torch.tensor(demonstrations.states))
        self._reach = self._reach.joined(Reach.of(scaled))
        self._train(demonstrations, context.torch_generator())

    def tensors(self) -> dict[str, Tensor]:
        return {
            "center": self._scale.center,
            "spread": self._scale.spread,
            "low": self._reach.low,
            "high": self._reach.high,
            "most": self._most,
            **{f"flow.{name}": tensor.clone() for name, tensor in self._flow.named_parameters()},
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._reach = Reach(tensors["low"], tensors["high"])
        self._most = tensors["most"]
        self._flow = _drawn(self.options, len(self._scale.center), 0)
        # Buffers, such as masks, follow from the options; only parameters are learned.
        self._flow.load_state_dict(networks.named("flow", tensors), strict=False)

    def _density(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the flow's base variables `[n, d]` and log p `[n]`."""
        within = torch.clamp(scaled, self._reach.low, self._reach.high)
        density = self._flow()
        base, stretch = density.transform.call_and_ladj(within)
        tail = self._reach.excess(scaled).square().sum(dim=1) / 2
        return base, density.base.log_prob(base) + stretch - tail

    def _train(self, demonstrations: Demonstrations, generator: torch.Generator) -> None:
        scaled = self._scale(torch.tensor(demonstrations.states))
        weights = networks.relative(demonstrations.weights, len(scaled))
        size = min(self.options.batch, len(scaled))

        def objective() -> Tensor:
            rows = torch.randperm(len(scaled), generator=generator)[:size]
            noise = torch.randn(size, scaled.shape[1], dtype=torch.float64, generator=generator)
            likelihood: Tensor = self._flow().log_prob(scaled[rows] + self.options.noise * noise)
            return -(weights[rows] * likelihood).mean()

        networks.descend(
            list(self._flow.parameters()),
            objective,
            steps=self.options.steps,
            learning_rate=self.options.learning_rate,
        )
        with torch.no_grad():
            self._most = self._density(scaled)[1].amax()


def _drawn(options: FlowOptions, width: int, seed: int) -> Any:
    """Return zuko's flow over `width` features, its parameters drawn from a seed."""
    try:
        import zuko  # type: ignore[import-untyped]
    except ImportError as error:
        raise PluginError(
            "encoder flow needs zuko, which is not installed",
            got=error,
            next_step="pip install 'iirl-encoders[flow]'",
        ) from error
    # zuko draws from torch's global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        flow = zuko.flows.MAF(
            width, transforms=options.transforms, hidden_features=(options.hidden, options.hidden)
        )
    return flow.double().requires_grad_(False)
