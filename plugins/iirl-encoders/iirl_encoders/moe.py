"""A mixture of autoencoder experts: expertness loss is the error of the gated reconstruction.

Each expert k reconstructs D_k(E_k(s)) with E_k a linear layer and a ReLU, D_k linear; a softmax
gate on the input mixes the reconstructions, and L(s) is the mean squared error over features
(MoE-GUIDE, arXiv 2507.15287).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iirl_encoders import networks, scale
from iirl_encoders.options import MoeAutoencoderOptions
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Autoencoders, Code, Context, DataError, Demonstrations, Encoder
from iirl_engine.api import Operation

# So many hidden units are worked on at a time, so that they stay in a core's cache.
_TILE = 2**17

# encoder [k, b, d] and [k, b], decoder [k, d, b] and [k, d], gate [k, d] and [k]
_PARAMETERS = ("encoder", "encoder_bias", "decoder", "decoder_bias", "gate", "gate_bias")


class MoeAutoencoder(Encoder[MoeAutoencoderOptions]):
    """Trains the mixture on expert states alone, weighted by β, with Adam."""

    abilities = Abilities(incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        width = states.shape[1]
        if self.options.weights is not None:
            self._scale = Scale.identity(width)
            self._keep(read_weights(Path(self.options.weights), width))
            return
        self._scale = Scale.asked(self.options.standardize, states)
        generator = context.torch_generator()
        self._keep(self._initial(width, generator))
        self._train(demonstrations, generator)

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        features, mixed = mixed_by(scaled, self._layers)
        return Code(features, (scaled - mixed).square().mean(dim=1))

    def loss_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        rows = max(1, _TILE // len(self._layers.inner_bias))
        parts = [self._loss_and_gradient(part) for part in torch.split(states, rows)]
        if len(parts) == 1:
            return parts[0]
        loss, gradient = zip(*parts, strict=True)
        return torch.cat(loss), torch.cat(gradient)

    def _loss_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self._scale(states)
        loss, gradient = error_and_gradient(scaled, self._layers)
        return loss, self._scale.gradient(gradient, scaled, states)

    def uncertainty(self, states: Tensor) -> Tensor | None:
        """Return the disagreement of the experts' reconstructions; None when there is one."""
        if len(self._parameters["gate"]) == 1:
            return None
        return disagreement(self._scale(states), self._parameters)

    def autoencoders(self) -> Autoencoders:
        return Mixture(self._scale, self._layers)

    def formula(self) -> list[Operation]:
        return [
            scale.operation(),
            {"op": "affine", "of": 1, "weight": "gate", "bias": "gate_bias"},
            {"op": "affine", "of": 1, "weight": "encoder", "bias": "encoder_bias"},
            {"op": "relu", "of": 3},
            {"op": "affine", "of": 4, "weight": "decoder", "bias": "decoder_bias"},
            {"op": "mixture", "of": [2, 5]},
            {"op": "subtract", "of": [1, 6]},
            {"op": "mean-square", "of": 7},
        ]

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        self._train(demonstrations, context.torch_generator())

    def tensors(self) -> dict[str, Tensor]:
        scale = {"center": self._scale.center, "spread": self._scale.spread}
        return scale | self._parameters

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._keep({name: tensors[name] for name in _PARAMETERS})

    def _keep(self, parameters: dict[str, Tensor]) -> None:
        self._parameters, self._layers = parameters, Layers.of(parameters)

    def _initial(self, width: int, generator: torch.Generator) -> dict[str, Tensor]:
        experts, asked = self.options.experts, self.options.bottleneck
        hidden = math.ceil(width / 2) if asked == "auto" else asked

        def uniform(*shape: int, fan_in: int) -> Tensor:
            drawn = torch.rand(*shape, dtype=torch.float64, generator=generator)
            return (2 * drawn - 1) / math.sqrt(fan_in)

        return {
            "encoder": uniform(experts, hidden, width, fan_in=width),
            "encoder_bias": uniform(experts, hidden, fan_in=width),
            "decoder": uniform(experts, width, hidden, fan_in=hidden),
            "decoder_bias": uniform(experts, width, fan_in=hidden),
            "gate": uniform(experts, width, fan_in=width),
            "gate_bias": uniform(experts, fan_in=width),
        }

    def _train(self, demonstrations: Demonstrations, generator: torch.Generator) -> None:
        scaled = self._scale(torch.tensor(demonstrations.states))
        size = min(self.options.batch, len(scaled))
        weights = networks.relative(demonstrations.weights, len(scaled))[:, None]

        def objective(parameters: networks.Parameters) -> Tensor:
            rows = torch.randperm(len(scaled), generator=generator)[:size]
            batch = scaled[rows]
            wrong = (batch - mixture(batch, parameters)[1]).square()
            return (weights[rows] * wrong).mean()

        learned = networks.minimised(
            self._parameters,
            objective,
            steps=self.options.steps,
            learning_rate=self.options.learning_rate,
        )
        self._keep(learned)


class Mixture(Autoencoders):
    """The whole mixture as one autoencoder between states in their own units.

    Its code is the gated units and the gate's weights, `[n, k b + k]`; the loss is its error of
    reconstruction alone, whichever experts the gate mixes.
    """

    count = 1

    def __init__(self, scale: Scale, layers: Layers) -> None:
        self._scale, self._layers = scale, layers

    def code(self, states: Tensor, expert: int) -> Tensor:
        return torch.cat(gated(self._scale(states), self._layers), dim=1)

    def decode(self, code: Tensor, expert: int) -> Tensor:
        units = len(self._layers.inner_bias)
        scaled = code[:, :units] @ self._layers.outer + code[:, units:] @ self._layers.outer_bias
        return scaled * self._scale.spread + self._scale.center


class Layers(NamedTuple):
    """The parameters as matrices that states are multiplied with from the left."""

    gate: Tensor
    gate_bias: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> Layers:
        """Return them for k experts of b units: `[d, k]`, `[d, k b]`, `[k b, d]`, and biases."""
        width = parameters["encoder"].shape[2]
        return cls(
            gate=parameters["gate"].T,
            gate_bias=parameters["gate_bias"],
            inner=parameters["encoder"].reshape(-1, width).T,
            inner_bias=parameters["encoder_bias"].reshape(-1),
            outer=parameters["decoder"].transpose(1, 2).reshape(-1, width),
            outer_bias=parameters["decoder_bias"],
        )


def mixture(scaled: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the gated hidden units `[n, k b]` and the mixed reconstruction `[n, d]`."""
    return mixed_by(scaled, Layers.of(parameters))


def mixed_by(scaled: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """Return what `mixture` does, of parameters that were laid out before."""
    features, weights = gated(scaled, layers)
    return features, (features @ layers.outer).add_(weights @ layers.outer_bias)


def gated(scaled: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """Return the hidden units `[n, k b]`, times their gate's weight, and the weights `[n, k]`."""
    # In place where autograd allows: at thousands of rows, fresh memory costs more than sums.
    weights = (scaled @ layers.gate).add_(layers.gate_bias).softmax(dim=1)
    units = (scaled @ layers.inner).add_(layers.inner_bias).relu_()
    experts = len(layers.gate_bias)
    features = units.view(-1, experts, len(layers.inner_bias) // experts) * weights[:, :, None]
    return features.flatten(1), weights


def error_and_gradient(scaled: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """Return L `[n]` and its gradient `[n, d]`, of `scaled [n, d]`.

    With the reconstruction m(s) = Σ_k w_k(s) D_k(E_k(s)) and the error r = s - m(s),

        L = |r|^2 / d,        dL/ds = 2/d (r - (dm/ds)^T r),
        (dm/ds)^T r = Σ_k w_k [A_k^T (1[u_k > 0] * B_k^T r) + (r.D_k - Σ_j w_j r.D_j) g_k]

    for hidden units u_k = max(0, A_k s + a_k), D_k = B_k u_k + c_k and a gate w = softmax(g s + h).
    """
    # In place wherever it can be, since fresh memory costs more than sums.
    gate = torch.addmm(layers.gate_bias, scaled, layers.gate).softmax(dim=1)[:, :, None]
    units = torch.addmm(layers.inner_bias, scaled, layers.inner).relu_()
    by_expert = units.unflatten(1, (gate.shape[1], -1))
    gated = by_expert * gate
    wrong = torch.addmm(scaled, gated.flatten(1), layers.outer, alpha=-1)
    wrong.addmm_(gate[:, :, 0], layers.outer_bias, alpha=-1)
    loss = torch.linalg.vecdot(wrong, wrong).div_(scaled.shape[1])
    back = wrong @ layers.outer.T
    to_gate = gated.mul_(back.view_as(by_expert)).sum(dim=2)
    to_gate.addcmul_(gate[:, :, 0], wrong @ layers.outer_bias.T)
    to_gate.addcmul_(gate[:, :, 0], to_gate.sum(dim=1, keepdim=True), value=-1)
    back.mul_(units.sign_()).view_as(by_expert).mul_(gate)
    share = 2 / scaled.shape[1]
    wrong.addmm_(back, layers.inner.T, beta=share, alpha=-share)
    return loss, wrong.addmm_(to_gate, layers.gate.T, alpha=-share)


def disagreement(scaled: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return the gate's variance of the experts' reconstructions `[n]`, averaged over features."""
    weights = torch.softmax(scaled @ parameters["gate"].T + parameters["gate_bias"], dim=1)
    inner = torch.einsum("nd,kbd->nkb", scaled, parameters["encoder"])
    units = torch.relu(inner + parameters["encoder_bias"])
    outer = torch.einsum("nkb,kdb->nkd", units, parameters["decoder"])
    each = outer + parameters["decoder_bias"]
    mixed = torch.einsum("nk,nkd->nd", weights, each)
    return torch.einsum("nk,nkd->n", weights, (each - mixed[:, None]).square()) / scaled.shape[1]


def read_weights(path: Path, width: int) -> dict[str, Tensor]:
    """Read a trained mixture.

    Raises
    ------
    DataError
        When arrays are missing, misshapen or not finite.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: torch.tensor(file[name], dtype=torch.float64) for name in file.files}
        count = len({n.split(".")[1] for n in arrays if n.startswith("experts.")})

        def stacked(part: str) -> Tensor:
            return torch.stack([arrays[f"experts.{k}.{part}"] for k in range(count)])

        found = {
            "encoder": stacked("encoder.0.weight"),
            "encoder_bias": stacked("encoder.0.bias"),
            "decoder": stacked("decoder.0.weight"),
            "decoder_bias": stacked("decoder.0.bias"),
            "gate": arrays["gating_network.fc.weight"],
            "gate_bias": arrays["gating_network.fc.bias"],
        }
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise DataError(
            "the file holds no mixture of autoencoders", where=path, got=error
        ) from error
    hidden = found["encoder"].shape[1]
    shapes = {
        "encoder": (count, hidden, width),
        "encoder_bias": (count, hidden),
        "decoder": (count, width, hidden),
        "decoder_bias": (count, width),
        "gate": (count, width),
        "gate_bias": (count,),
    }
    for name, shape in shapes.items():
        if tuple(found[name].shape) != shape:
            raise DataError(
                f"{name} must have the shape {list(shape)}",
                where=path,
                got=list(found[name].shape),
            )
        if not torch.isfinite(found[name]).all():
            raise DataError(f"{name} holds NaN or Inf", where=path)
    return found
