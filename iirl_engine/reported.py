"""What an auditor reports, checked and copied: states, states with p-values, and concerns."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.api import Context
from iirl_engine.demonstrations import read_only
from iirl_engine.records import Concern, Suspects

# States that a concern keeps, at most.
_EXAMPLES = 16


@attrs.frozen(eq=False)
class Reported:
    """A copy of what an auditor yields, which may use its tensors again."""

    states: Tensor
    p_values: NDArray[np.float64]
    method: str


def reported(yielded: Any, width: int) -> Reported:
    """Return states, or states with p-values, as an audit keeps them.

    Raises
    ------
    TypeError, ValueError
        When they are no `[m, width]` tensor of numbers, or have no p-value each.
    """
    if not isinstance(yielded, Suspects):
        states = _states(yielded, width)
        return Reported(states, np.full(len(states), np.nan), "")
    states, method = _states(yielded.states, width), yielded.method
    given = yielded.p_values
    p_values = np.array(
        given.detach().cpu().numpy() if isinstance(given, Tensor) else given, dtype=np.float64
    )
    if p_values.shape != (len(states),) or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"yielded {len(states)} states whose p-values are not one in [0, 1] each")
    if not isinstance(method, str) or not method:
        raise ValueError(f"yielded p-values of the method {method!r}, which says nothing")
    return Reported(states, p_values, method)


def _states(states: Any, width: int) -> Tensor:
    if not isinstance(states, Tensor) or states.dtype == torch.bool or states.is_complex():
        kind = states.dtype if isinstance(states, Tensor) else type(states).__name__
        raise TypeError(f"yielded {kind}, no tensor of numbers")
    if states.ndim != 2 or states.shape[1] != width:
        raise ValueError(f"yielded shape {list(states.shape)}, not [m, {width}]")
    return states.detach().to("cpu", torch.float64, copy=True)


def kept_concern(context: Context, said: Concern, width: int) -> Concern:
    """Return a concern as it is kept: checked, in plain types, and with its origin.

    Raises
    ------
    TypeError, ValueError
        When it cannot be kept, shown or written as JSON.
    """
    if not (isinstance(said.kind, str) and re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", said.kind)):
        raise ValueError(f"yielded a concern of kind {said.kind!r}, no words-in-kebab-case")
    if not (isinstance(said.text, str) and said.text.strip()):
        raise ValueError(f"yielded a concern {said.kind!r} without a text")
    numbers = {str(name): float(value) for name, value in said.numbers.items()}
    if unknown := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(
            f"yielded a concern {said.kind!r} whose number {unknown[0]!r} is not finite"
        )
    states = torch.empty((0, width)) if said.states is None else torch.as_tensor(said.states)
    states = _states(states, width)[:_EXAMPLES]
    if not torch.isfinite(states).all():
        raise ValueError(f"yielded a concern {said.kind!r} whose states hold NaN or Inf")
    return Concern(
        said.kind,
        said.text,
        numbers,
        read_only(states.numpy()),
        bool(said.grave),
        context.id,
        context.round,
    )
