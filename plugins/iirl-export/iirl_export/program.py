"""The reward as one program of tensor operations, and which of its parts allows none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from iirl_engine import Norm, Revision, RewardModel, UsageError
from iirl_export.nearest import treeless
from iirl_export.stand_ins import StandIns

Function = Callable[[Tensor], Tensor]
Convert = Callable[[ExportedProgram], bytes]


def converted(model: RewardModel, dtype: torch.dtype, convert: Convert) -> bytes:
    """Return R(s), the reward at full strength, as the content of a file.

    Parameters
    ----------
    model
        The reward.
    dtype
        Of the states `[n, d]` that the program takes and of the reward `[n]` that it answers;
        it computes in float64.
    convert
        From the traced program to a file's content.

    Raises
    ------
    UsageError
        When a part of the reward cannot be traced or converted; the message names it.
    """
    # A revision takes nothing off: the parts are its own already.
    kept = tuple(c for c in model.corrections if not isinstance(c, Revision))
    changed = model.evolve(
        encoder=treeless(model.encoder),
        mapping=model.mapping,
        corrections=kept,
        norms={name: treeless(norm) for name, norm in model.norms.items()},
    )

    def attempt(function: Function) -> bytes:
        return convert(_traced(function, model.width, dtype))

    try:
        return attempt(functools.partial(_reward, changed))
    except Exception as error:
        part, reason = _culprit(changed, attempt) or ("the reward", error)
        raise UsageError(
            f"{part} cannot be exported: it is no fixed sequence of tensor operations",
            got=_first_cause(reason),
            next_step="score with iirl_engine.load_release, or choose another part in the chain",
        ) from error


def _reward(model: RewardModel, states: Tensor) -> Tensor:
    """Return `RewardModel.reward` of `states [n, d]`, with no branch on their values."""
    wide = states.to(torch.float64)
    finite = torch.isfinite(wide).all(dim=1)
    known = torch.where(finite[:, None], wide, 0.0)
    view = model.view(known)
    reward = view.base
    for correction in model.corrections:
        reward = reward - correction.suppression(view)
    reward = torch.where(finite & torch.isfinite(reward), reward.clamp(0, 1), 0.0)
    return reward.to(states.dtype)


class _Module(torch.nn.Module):
    """A function of states as the module that torch.export asks for."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, states: Tensor) -> Tensor:
        return self.function(states)


def _traced(function: Function, width: int, dtype: torch.dtype) -> ExportedProgram:
    # Traced with 3 rows: a program traced with 0 or 1 would be one for that many.
    example = torch.zeros(3, width, dtype=dtype)
    rows = ({0: Dim("n")},)
    with torch.no_grad(), StandIns():
        program = torch.export.export(_Module(function), (example,), dynamic_shapes=rows)
    # Tensors that share memory, such as a matrix and its transpose, are written each by itself.
    for name, constant in program.constants.items():
        if isinstance(constant, Tensor):
            program.constants[name] = constant.clone(memory_format=torch.contiguous_format)
    return program


def _culprit(
    model: RewardModel, attempt: Callable[[Function], Any]
) -> tuple[str, Exception] | None:
    """Return the first part that alone fails as the whole did, and why it does."""
    for part, function in _parts(model):
        try:
            attempt(function)
        except Exception as error:
            return part, error
    return None


def _parts(model: RewardModel) -> Iterator[tuple[str, Function]]:
    """Yield the name of each part, and the reward up to there as a function of states."""
    yield (
        f"encoder {type(model.encoder).__name__}",
        lambda states: model.encoder.encode(states.to(torch.float64)).loss,
    )
    bare = model.evolve(corrections=())
    yield f"mapping {type(model.mapping).__name__}", functools.partial(_reward, bare)
    for name in sorted({name for c in model.corrections for name in c.norms()}):
        yield f"norm {name}", functools.partial(_violation, model.norms[name])
    for correction in model.corrections:
        one = model.evolve(corrections=(correction,))
        yield f"correction {correction.id}", functools.partial(_reward, one)


def _violation(norm: Norm[Any], states: Tensor) -> Tensor:
    return norm.violation(states.to(torch.float64))


def _first_cause(error: BaseException) -> str:
    """Return the first lines of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:2])}"
