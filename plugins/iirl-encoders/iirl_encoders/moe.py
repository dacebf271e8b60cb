"""A mixture of autoencoder experts: expertness loss is the error of the gated reconstruction.

Each expert k reconstructs D_k(E_k(s)) with E_k a linear layer and a ReLU, D_k linear; a softmax
gate on the input mixes the reconstructions, and L(s) is the mean squared error over features
(MoE-GUIDE, arXiv 2507.15287).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iirl_encoders.options import MoeAutoencoderOptions
from iirl_encoders.scale import Scale
from iirl_engine import Code, Context, DataError, Demonstrations, Encoder

# encoder [k, b, d] and [k, b], decoder [k, d, b] and [k, d], gate [k, d] and [k]
_PARAMETERS = ("encoder", "encoder_bias", "decoder", "decoder_bias", "gate", "gate_bias")


class MoeAutoencoder(Encoder[MoeAutoencoderOptions]):
    """Trains the mixture on expert states alone, with Adam."""

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        width = states.shape[1]
        if self.options.weights is not None:
            self._scale = Scale.identity(width)
            self._parameters = read_weights(Path(self.options.weights), width)
            return
        self._scale = Scale.asked(self.options.standardize, states)
        generator = context.torch_generator()
        self._parameters = self._initial(width, generator)
        self._train(self._scale(states), generator)

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        features, mixed = mixture(scaled, self._parameters)
        return Code(features, (scaled - mixed).square().mean(dim=1))

    def tensors(self) -> dict[str, Tensor]:
        scale = {"center": self._scale.center, "spread": self._scale.spread}
        return scale | self._parameters

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._parameters = {name: tensors[name] for name in _PARAMETERS}

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

    def _train(self, scaled: Tensor, generator: torch.Generator) -> None:
        learned = {name: value.requires_grad_(True) for name, value in self._parameters.items()}
        optimizer = torch.optim.Adam(learned.values(), lr=self.options.learning_rate)
        size = min(self.options.batch, len(scaled))
        with torch.enable_grad():
            for _ in range(self.options.steps):
                rows = torch.randperm(len(scaled), generator=generator)[:size]
                batch = scaled[rows]
                loss = (batch - mixture(batch, learned)[1]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self._parameters = {name: value.detach() for name, value in learned.items()}


def mixture(scaled: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the gated hidden units `[n, k b]` and the mixed reconstruction `[n, d]`."""
    _, hidden, width = parameters["encoder"].shape
    weights = torch.softmax(scaled @ parameters["gate"].T + parameters["gate_bias"], dim=1)
    units = torch.relu(
        scaled @ parameters["encoder"].reshape(-1, width).T + parameters["encoder_bias"].reshape(-1)
    )
    features = units * weights.repeat_interleave(hidden, dim=1)
    decoder = parameters["decoder"].transpose(1, 2).reshape(-1, width)
    return features, features @ decoder + weights @ parameters["decoder_bias"]


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
