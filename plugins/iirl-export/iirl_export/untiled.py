"""How code that goes through a batch in tiles is traced: the batch as a whole.

Rows do not depend on their batch, so that no reward changes; memory grows with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SPLIT = inspect.signature(torch.split)
_CDIST = inspect.signature(torch.cdist)


class Untiled(TorchFunctionMode):
    """Within it `torch.split` leaves a traced batch whole, and `torch.cdist` is a plain sum.

    How many tiles there are depends on the batch, and ONNX has no operation for `torch.cdist`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in (torch.split, Tensor.split):
            found = _SPLIT.bind(*args, **named).arguments
            tensor = found["tensor"]
            if found.get("dim", 0) == 0 and isinstance(tensor.shape[0], torch.SymInt):
                return (tensor,)
        if func is torch.cdist:
            found = _CDIST.bind(*args, **named).arguments
            if found.get("p", 2.0) == 2 and found["x1"].ndim == found["x2"].ndim == 2:
                return _distances(found["x1"], found["x2"])
        return func(*args, **named)


def _distances(states: Tensor, centers: Tensor) -> Tensor:
    """Return the distances `[n, k]` of `states [n, d]` to `centers [k, d]`.

    Feature by feature: squares neither cancel nor take memory for `[n, k, d]`.
    """
    squared = (states[:, :1] - centers[:, 0]).square()
    for feature in range(1, centers.shape[1]):
        squared = squared + (states[:, feature, None] - centers[:, feature]).square()
    return squared.sqrt()
