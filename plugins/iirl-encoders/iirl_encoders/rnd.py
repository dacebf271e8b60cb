"""Expertness by random network distillation: how badly a network foretells a random one.

Pairs k of networks: a target f_k, drawn and left alone, and a deeper predictor h_k that learns to
agree with it on the expert states. The loss is the mean squared error

    L(s) = mean over pairs k and outputs j of (h_kj(s) - f_kj(s))^2

(Burda et al., "Exploration by Random Network Distillation", ICLR 2019; as a measure of expert
support, RED: Wang et al., ICML 2019). Units are x sigmoid(x): where there were no experts both
networks go on growing, apart from each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import silu

from iirl_encoders import networks
from iirl_encoders.options import RndOptions
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, Demonstrations, Encoder


class Rnd(Encoder[RndOptions]):
    """Trains the predictors on expert states alone, weighted by β, with Adam."""

    abilities = Abilities(incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        self._scale = Scale.standard(states)
        generator = context.torch_generator()
        members, hidden = self.options.members, self.options.hidden
        width, outputs = states.shape[1], self.options.outputs
        self._target = networks.drawn(members, (width, hidden, outputs), generator)
        self._predictor = networks.drawn(members, (width, hidden, hidden, outputs), generator)
        self._train(demonstrations, generator)

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        units, predicted = networks.answer(self._predictor, scaled, silu)
        wrong = (predicted - self._aim(scaled)).square().mean(dim=(0, 2))
        return Code(units.transpose(0, 1).flatten(1), wrong)

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return the standard deviation over the pairs of networks of their errors."""
        scaled = self._scale(states)
        predicted = networks.answer(self._predictor, scaled, silu)[1]
        return (predicted - self._aim(scaled)).square().mean(dim=2).std(dim=0, correction=0)

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        self._train(demonstrations, context.torch_generator())

    def tensors(self) -> dict[str, Tensor]:
        return {
            "center": self._scale.center,
            "spread": self._scale.spread,
            **{f"target.{name}": tensor for name, tensor in self._target.items()},
            **{f"predictor.{name}": tensor for name, tensor in self._predictor.items()},
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._target = networks.named("target", tensors)
        self._predictor = networks.named("predictor", tensors)

    def _aim(self, scaled: Tensor) -> Tensor:
        return networks.answer(self._target, scaled, silu)[1]

    def _train(self, demonstrations: Demonstrations, generator: torch.Generator) -> None:
        scaled = self._scale(torch.tensor(demonstrations.states))
        aim = self._aim(scaled)
        weights = networks.relative(demonstrations.weights, len(scaled))
        size = min(self.options.batch, len(scaled))

        def objective(predictor: networks.Parameters) -> Tensor:
            rows = torch.randperm(len(scaled), generator=generator)[:size]
            predicted = networks.answer(predictor, scaled[rows], silu)[1]
            wrong = (predicted - aim[:, rows]).square().mean(dim=(0, 2))
            return (weights[rows] * wrong).mean()

        self._predictor = networks.minimised(
            self._predictor,
            objective,
            steps=self.options.steps,
            learning_rate=self.options.learning_rate,
        )
