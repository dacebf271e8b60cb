"""Expertness by contrast: eq. 2 whole, encoder and mapping trained together.

An ensemble of small networks k has hidden units E_θ (tanh) and a last layer ψ. Beyond the range
of the expert states widened by 50 % a term far(s) takes over, which grows with every feature's
excess, because there the networks have learned nothing:

    f_k(s) = w_k · E_θk(s) + b_k + far(s),    g(s) = mean over k of sigmoid(-f_k(s))

Eq. 2 is linear in g, so that each network is trained on it alone. β is taken relative to its mean
over the expert states, and over the negatives, so that neither term outweighs the other. To keep a
slope between the experts and the rest, where eq. 2 alone would make a cliff, a squared-gradient
penalty on f_k is subtracted at random points between experts and negatives (as in Mescheder et
al., "Which training methods for GANs do actually converge?", ICML 2018). The loss is L = -log g, so
mapping `exp` with `steepness = 1, l_min = 0, l_max = 1` gives back the g that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from iirl_encoders import networks
from iirl_encoders.options import EnergyOptions
from iirl_encoders.reach import Reach
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, Demonstrations, Encoder

# Standard deviations of the features that the noise of implicit negatives lies between.
_LEAST_NOISE, _MOST_NOISE = 0.1, 10.0


class Energy(Encoder[EnergyOptions]):
    """Maximises E_expert[β g] - E_negative[β g] over θ and ψ together, with Adam.

    Implicit negatives stand for what is unlike the expert: half are expert states with Gaussian
    noise of 0.1 to 10 standard deviations, half are uniform over the widened range; each has the
    β of the expert state it is drawn with. They are all there is without negatives, and weigh
    `implicit` as much as the given ones with them.
    """

    abilities = Abilities(negatives="optional", incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        self._scale = Scale.standard(states)
        generator = context.torch_generator()
        hidden = self.options.hidden
        sizes = (states.shape[1], hidden, hidden, 1)
        self._parameters = networks.drawn(self.options.members, sizes, generator)
        self._reach = Reach.of(self._scale(states))
        self._train(demonstrations, generator)

    def encode(self, states: Tensor) -> Code:
        units, energy = self._energy(self._scale(states), self._parameters)
        return Code(units.transpose(0, 1).flatten(1), _mean_loss(energy))

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return the networks' disagreement on L, plus far(s), on which they have no say."""
        scaled = self._scale(states)
        energy = self._energy(scaled, self._parameters)[1]
        disagreement = torch.nn.functional.softplus(energy).std(dim=0, correction=0)
        return disagreement + self._far(scaled)

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
            **{f"network.{name}": tensor for name, tensor in self._parameters.items()},
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._reach = Reach(tensors["low"], tensors["high"])
        self._parameters = networks.named("network", tensors)

    def _energy(self, scaled: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return E_θ `[members, n, h]` and f `[members, n]`."""
        units, output = networks.answer(parameters, scaled, torch.tanh)
        return units, output.squeeze(2) + self._far(scaled)

    def _far(self, scaled: Tensor) -> Tensor:
        return self._reach.excess(scaled).sum(dim=-1)

    def _train(self, demonstrations: Demonstrations, generator: torch.Generator) -> None:
        experts = self._scale(torch.tensor(demonstrations.states))
        negatives = self._scale(torch.tensor(demonstrations.negatives))
        weights = networks.relative(demonstrations.weights, len(experts))
        negative_weights = networks.relative(demonstrations.negative_weights, len(negatives))
        members, batch = self.options.members, self.options.batch
        # Expert states lie about sqrt(d) standard deviations apart: a slope is told per such step.
        smoothness = self.options.smoothness * experts.shape[1]
        given = 0.0 if len(negatives) == 0 else 1 / (1 + self.options.implicit)

        def rows(states: Tensor) -> Tensor:
            return torch.randint(len(states), (members, batch), generator=generator)

        def objective(parameters: networks.Parameters) -> Tensor:
            chosen = rows(experts)
            real, strength = experts[chosen], weights[chosen]
            gained = strength * self._reward(real, parameters)
            false = self._implicit(real, generator)
            lost = (1 - given) * strength * self._reward(false, parameters)
            if given:
                chosen = rows(negatives)
                other = negatives[chosen]
                reward = self._reward(other, parameters)
                lost = lost + given * negative_weights[chosen] * reward
                which = torch.rand(members, batch, 1, generator=generator) < given
                false = torch.where(which, other, false)
            share = torch.rand(members, batch, 1, dtype=torch.float64, generator=generator)
            slope = self._slope(torch.lerp(real, false, share), parameters)
            return (lost - gained + smoothness * slope).mean(dim=1).sum()

        self._parameters = networks.minimised(
            self._parameters,
            objective,
            steps=self.options.steps,
            learning_rate=self.options.learning_rate,
        )

    def _reward(self, scaled: Tensor, parameters: networks.Parameters) -> Tensor:
        return torch.sigmoid(-self._energy(scaled, parameters)[1])

    def _slope(self, scaled: Tensor, parameters: networks.Parameters) -> Tensor:
        """Return the squared gradient of f `[members, n]`, summed over features."""
        scaled = scaled.requires_grad_(True)
        total = self._energy(scaled, parameters)[1].sum()
        (gradient,) = torch.autograd.grad(total, scaled, create_graph=True)
        return gradient.square().sum(dim=2)

    def _implicit(self, experts: Tensor, generator: torch.Generator) -> Tensor:
        """Return a negative for each of the expert states `[members, n, d]`."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, dtype=torch.float64, generator=generator)

        members, count, width = experts.shape
        size = _LEAST_NOISE * (_MOST_NOISE / _LEAST_NOISE) ** uniform(members, count, 1)
        noise = torch.randn(experts.shape, dtype=torch.float64, generator=generator)
        low, high = self._reach.low, self._reach.high
        anywhere = low + uniform(members, count, width) * (high - low)
        return torch.where(uniform(members, count, 1) < 0.5, experts + size * noise, anywhere)


def _mean_loss(energy: Tensor) -> Tensor:
    """Return -log of the mean over networks of sigmoid(-f), `[n]`, from f `[members, n]`."""
    logs = torch.nn.functional.logsigmoid(-energy)
    return (math.log(len(energy)) - torch.logsumexp(logs, dim=0)).clamp(min=0)
