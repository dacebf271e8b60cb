"""Norms: a measure with a sign, the same in any batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.encoders import data


def states(count: int = 2000) -> Tensor:
    """Return states near the experts and far from them, in turn."""
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    drawn[::2] *= 3
    expert = torch.tensor(data().states)
    drawn[1::2] = expert[torch.arange(count // 2) % len(expert)] + 1e-3 * drawn[1::2]
    return drawn


def fitted(subject: Subject) -> Any:
    """Return the norm, settled on three features x0, x1, x2."""
    norm = subject.build()
    norm.fit(data(), subject.context(0, 0))
    return norm


@check("norm")
def violation_is_a_number_per_state(subject: Subject) -> None:
    """The violation is `[n]`, float64, without NaN for finite states."""
    violation = fitted(subject).violation(states())
    require(violation.shape == (2000,), f"the violation has the shape {list(violation.shape)}")
    require(violation.dtype == torch.float64, f"the violation is {violation.dtype}")
    require(not bool(torch.isnan(violation).any()), "the violation is NaN")


@check("norm")
def some_states_are_forbidden_and_some_allowed(subject: Subject) -> None:
    """The sign tells: above 0 forbidden, else allowed; a norm that never speaks is none."""
    violation = fitted(subject).violation(states())
    require(bool((violation > 0).any()), "no state is forbidden")
    require(bool((violation <= 0).any()), "every state is forbidden")


@check("norm")
def rows_do_not_depend_on_their_batch(subject: Subject) -> None:
    """A state is judged alone."""
    norm = fitted(subject)
    alone = torch.cat([norm.violation(row[None]) for row in states(50)])
    same = torch.allclose(alone, norm.violation(states(50)), rtol=1e-9, atol=1e-12)
    require(bool(same), "a violation depends on the batch")


@check("norm")
def states_are_untouched(subject: Subject) -> None:
    """Measuring reads the states and does not write them."""
    given = states(50)
    fitted(subject).violation(given)
    require(bool(torch.equal(given, states(50))), "the states were changed in place")


@check("norm")
def release_brings_it_back(subject: Subject) -> None:
    """What `tensors` gives is all that `restore` needs, bit for bit."""
    norm, again = fitted(subject), subject.build()
    again.restore({name: tensor.clone() for name, tensor in norm.tensors().items()}, data())
    same = torch.equal(again.violation(states()), norm.violation(states()))
    require(bool(same), "the restored norm answers otherwise")
