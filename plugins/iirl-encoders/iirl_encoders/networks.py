"""Small multilayer perceptrons, several side by side, and how their parameters are learned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Parameters = dict[str, Tensor]


def drawn(members: int, sizes: Sequence[int], generator: torch.Generator) -> Parameters:
    """Return the parameters of `members` networks of the same layers, drawn independently.

    Layer i has `weight_i [members, in, out]` and `bias_i [members, 1, out]`, uniform within
    sqrt(3 / in), so that units start with the variance of their inputs, and 1 / sqrt(in).
    """
    parameters = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        for name, shape, reach in (
            ("weight", (members, fan_in, fan_out), math.sqrt(3 / fan_in)),
            ("bias", (members, 1, fan_out), 1 / math.sqrt(fan_in)),
        ):
            share = torch.rand(shape, dtype=torch.float64, generator=generator)
            parameters[f"{name}_{layer}"] = (2 * share - 1) * reach
    return parameters


def answer(
    parameters: Mapping[str, Tensor], states: Tensor, activation: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the last hidden units `[members, n, h]` and the outputs `[members, n, out]`.

    `states` are `[n, in]`, the same for every network, or `[members, n, in]`.
    """
    last = len(parameters) // 2 - 1
    units = states
    for layer in range(last):
        weight, bias = parameters[f"weight_{layer}"], parameters[f"bias_{layer}"]
        units = activation(units @ weight + bias)
    return units, units @ parameters[f"weight_{last}"] + parameters[f"bias_{last}"]


def descend(
    parameters: Sequence[Tensor],
    objective: Callable[[], Tensor],
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Take so many Adam steps down the objective, changing the parameters in place."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            torch.autograd.backward(objective())
            optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)


def minimised(
    start: Mapping[str, Tensor],
    objective: Callable[[Parameters], Tensor],
    *,
    steps: int,
    learning_rate: float,
) -> Parameters:
    """Return the parameters that `descend` comes to from `start`, which is left as it is."""
    learned = {name: value.clone() for name, value in start.items()}
    descend(
        list(learned.values()),
        lambda: objective(learned),
        steps=steps,
        learning_rate=learning_rate,
    )
    return learned


def named(prefix: str, tensors: Mapping[str, Tensor]) -> Parameters:
    """Return the tensors whose name begins with `prefix.`, under the rest of their names."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def relative(weights: NDArray[np.float64] | None, count: int) -> Tensor:
    """Return β `[count]` of eq. 2 over its mean, so that a term keeps its size; None is all 1."""
    if weights is None:
        return torch.ones(count, dtype=torch.float64)
    strength = torch.tensor(weights)
    mean = strength.mean()
    return strength / mean if mean > 0 else strength
