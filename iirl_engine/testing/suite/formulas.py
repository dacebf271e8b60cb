"""Formulas: what a part declares for certificates is what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite import encoders, mappings, norms


def bounds(kind: str, part: Any, formula: Any) -> Any:
    """Return the checker's bounds of one part, as it would be in a release."""
    from iirl_engine.certificate import Reward

    parts: dict[str, Any] = {"loss": None, "mapping": None, "norms": {}}
    parts |= {"norms": {"n": formula}} if kind == "norm.n" else {kind: formula}
    prefix = "encoder" if kind == "loss" else kind
    tensors = {f"{prefix}.{name}": tensor.numpy() for name, tensor in part.tensors().items()}
    tensors["demonstrations.states"] = encoders.data().states
    return Reward(parts, [], tensors)


def points(states: Tensor) -> Iterator[Any]:
    """Yield each state as a box of no extent."""
    from iirl_engine.certificate import box

    width = states.shape[1]
    for at in states.numpy():
        yield box(at, at, np.zeros(width), np.eye(width))


@check("encoder")
def formula_is_the_loss(subject: Subject) -> None:
    """`formula` is None, or bounds the loss of a single state from below, and closely."""
    encoder, states = encoders.fitted(subject), encoders.probes()
    if (formula := encoder.formula()) is None:
        return
    loss = encoders.loss_of(encoder, states.numpy()).numpy()
    reward = bounds("loss", encoder, formula)
    low = np.array([reward.loss_low(at) for at in points(states)], float)
    least = np.finfo(float).tiny
    require(bool((low <= loss * (1 + 1e-9) + least).all()), "the formula's loss is greater")
    require(bool((low >= loss * (1 - 1e-6) - 1e-9).all()), "the formula's loss is smaller")


@check("mapping")
def formula_is_the_curve(subject: Subject) -> None:
    """`formula` is None, or bounds the base reward of a loss from above, and closely."""
    mapping = mappings.fitted(subject)
    if (formula := mapping.formula()) is None:
        return
    reward = mapping.map(mappings.LOSSES).numpy()
    bound = bounds("mapping", mapping, formula)
    high = np.array([bound.base_high(loss) for loss in mappings.LOSSES.tolist()], float)
    require(bool((high >= reward - 1e-12).all()), "the formula's reward is smaller")
    require(bool((high <= reward + 1e-9).all()), "the formula's reward is greater")


@check("norm")
def formula_is_the_violation(subject: Subject) -> None:
    """`formula` is None, or bounds the violation of a state from both sides, and closely."""
    norm, states = norms.fitted(subject), norms.states(200)
    if (formula := norm.formula()) is None:
        return
    violation = norm.violation(states).numpy()
    reward = bounds("norm.n", norm, formula)
    told = [reward.violation("n", at) for at in points(states)]
    low, high = np.array([[v.lower(), v.upper()] for v in told], float).T
    inside = (low <= violation + 1e-12) & (violation <= high + 1e-12)
    require(bool(inside.all()), "the formula's violation is another")
    require(bool((high - low <= 1e-5).all()), "the formula's violation is not told closely")
