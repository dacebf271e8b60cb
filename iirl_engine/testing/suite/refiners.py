"""Refiners: they close flaws, spare what is known to be good, and can be undone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iirl_engine.audit import verify
from iirl_engine.corrections.base import Correction
from iirl_engine.records import AuditResult, Repair
from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.worlds import FLOOR, Cliff, Flat, World

CAP = 0.10


def repair(world: World) -> Repair:
    """Return the world's flaws among 1,000 states, and known-good states well inside."""
    states = np.random.default_rng(3).uniform(-1, 1, (1000, world.width))
    result = AuditResult("uniform", "findings", states, 1000, 0.0)
    flaws = verify([result], world.model, FLOOR, ())[0].new
    good = np.random.default_rng(4).uniform(-0.3, 0.3, (200, world.width))
    none = np.empty((0, world.width))
    return Repair(world.model, flaws, none, good, world.model(good), FLOOR)


def proposed(subject: Subject, asked: Repair) -> Sequence[Correction]:
    """Return what the refiner proposes."""
    return tuple(subject.build().propose(asked, subject.context()))


@check("refiner")
def flaws_are_closed(subject: Subject) -> None:
    """What is proposed closes flaws of at least one known-answer world, and opens none."""
    closed = 0
    probes = np.random.default_rng(6).uniform(-1, 1, (1000, 2))
    for world in (Flat(), Cliff()):
        asked = repair(world)
        mended = asked.model.with_corrections(proposed(subject, asked))
        closed += int((mended(asked.flaws.states) <= FLOOR).sum())
        opened = world.is_flaw(probes, mended) & ~world.is_flaw(probes)
        require(not opened.any(), "what was no flaw becomes one")
    require(closed > 0, "no flaw is closed")


@check("refiner")
def known_good_states_are_spared(subject: Subject) -> None:
    """No known-good state well inside the limits loses more than 0.10."""
    asked = repair(Flat())
    mended = asked.model.with_corrections(proposed(subject, asked))
    loss = float((asked.original - mended(asked.known_good)).max())
    require(loss <= CAP + 1e-9, f"a known-good state loses {loss:.3g}")


@check("refiner")
def corrections_can_be_taken_back(subject: Subject) -> None:
    """The former reward stays bit for bit what it was, and corrections have ids of their own."""
    asked = repair(Flat())
    probes = np.random.default_rng(5).uniform(-1, 1, (500, 2))
    before = asked.model(probes)
    corrections = proposed(subject, asked)
    require(np.array_equal(asked.model(probes), before), "the former reward changed")
    ids = [correction.id for correction in corrections]
    require(len(set(ids)) == len(ids), "two corrections share an id")
    asked.model.with_corrections(corrections)(probes)
    require(np.array_equal(asked.model(probes), before), "the former reward changed")


@check("refiner")
def same_seed_same_corrections(subject: Subject) -> None:
    """A proposal can be repeated bit for bit."""
    first, second = (proposed(subject, repair(Flat())) for _ in range(2))
    require(len(first) == len(second), "two proposals of one seed differ")
    for one, other in zip(first, second, strict=True):
        same = one.describe() == other.describe() and all(
            np.array_equal(array, other.tensors()[name]) for name, array in one.tensors().items()
        )
        require(same, "two proposals of one seed differ")
