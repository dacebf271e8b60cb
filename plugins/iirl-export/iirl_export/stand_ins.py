"""Calls that a traced program cannot hold, and tensor operations that answer the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SPLIT = inspect.signature(torch.split)


class StandIns(TorchFunctionMode):
    """Replaces calls while a program is traced.

    `torch.split` leaves a traced batch whole: how many tiles there are would depend on the batch.
    Rows do not depend on theirs, so that no reward changes; memory grows with the batch. For
    `torch.cdist` and `torch.searchsorted` ONNX has no operation, and for `softplus` ONNX Runtime
    has none in float64.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.cdist and args[0].ndim == args[1].ndim == 2 and named.get("p", 2.0) == 2:
            return _distances(*args[:2])
        if func is torch.searchsorted and set(named) <= {"right"} and len(args) == 2:
            return _places(*args, **named)
        if func is torch.nn.functional.softplus and len(args) == 1 and not named:
            return args[0].clamp(min=0) + torch.log1p(torch.exp(-args[0].abs()))
        if func in (torch.split, Tensor.split):
            found = _SPLIT.bind(*args, **named).arguments
            tensor = found["tensor"]
            if found.get("dim", 0) == 0 and isinstance(tensor.shape[0], torch.SymInt):
                return (tensor,)
        return func(*args, **named)


def _distances(states: Tensor, centers: Tensor) -> Tensor:
    """Return the distances `[n, k]` of `states [n, d]` to `centers [k, d]`.

    Feature by feature: squares neither cancel nor take memory for `[n, k, d]`.
    """
    squared = (states[:, :1] - centers[:, 0]).square()
    for feature in range(1, centers.shape[1]):
        squared = squared + (states[:, feature, None] - centers[:, feature]).square()
    return squared.sqrt()


def _places(ordered: Tensor, values: Tensor, right: bool = False) -> Tensor:
    """Return how many numbers of `ordered [..., m]` are below each value, or not above it."""
    limits, asked = ordered.unsqueeze(-2), values.unsqueeze(-1)
    return (limits <= asked if right else limits < asked).sum(dim=-1)
