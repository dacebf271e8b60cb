"""Schedules: a strength from 0 to 1 that never rises with time, state by state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.norms import states

TIMES = torch.cat([torch.zeros(1), torch.logspace(-3, 6, 100)]).to(torch.float64)


class _Violations(Mapping[str, Tensor]):
    """Answers for any norm: the first half of the states keeps it, the other does not."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Tensor:
        return torch.where(self._rows < 25, -1.0, 1.0).to(torch.float64)

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def strength(subject: Subject, t: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return what the schedule says of fifty states, or some of them, at times `[n]`."""
    rows = torch.arange(50) if rows is None else rows
    found: Tensor = subject.build().strength(states(50)[rows], t, _Violations(rows))
    return found


@check("schedule")
def strength_lies_in_0_to_1(subject: Subject) -> None:
    """The strength is `[n]`, float64, in [0, 1], at any time."""
    for time in TIMES:
        found = strength(subject, time.repeat(50))
        require(found.shape == (50,), f"the strength has the shape {list(found.shape)}")
        require(found.dtype == torch.float64, f"the strength is {found.dtype}")
        require(bool(((found >= 0) & (found <= 1)).all()), "a strength is outside [0, 1]")


@check("schedule")
def strength_never_rises_with_time(subject: Subject) -> None:
    """What an audit sees at t = 0 is the most that the reward will ever be."""
    over_time = torch.stack([strength(subject, time.repeat(50)) for time in TIMES])
    require(bool((over_time.diff(dim=0) <= 0).all()), "a strength rises with time")


@check("schedule")
def rows_do_not_depend_on_their_batch(subject: Subject) -> None:
    """A state at a time has one strength, whatever it is asked together with."""
    times = TIMES[:50]
    single = [strength(subject, times[row : row + 1], torch.tensor([row])) for row in range(50)]
    same = torch.allclose(torch.cat(single), strength(subject, times), rtol=1e-12, atol=1e-15)
    require(bool(same), "a strength depends on the batch")
