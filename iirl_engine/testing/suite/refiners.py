"""Refiners: they close flaws, spare what is known to be good, and can be undone."""

from __future__ import annotations

import attrs
import numpy as np
import torch

from iirl_engine.audit import verify
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.demonstrations import read_only
from iirl_engine.propose import NEEDS
from iirl_engine.records import AuditResult
from iirl_engine.repair import Proposal, Repair
from iirl_engine.reward import RewardModel
from iirl_engine.testing.kit import RuledOut, Subject, check, require
from iirl_engine.testing.worlds import FLOOR, Cliff, Flat, Mistaken, World

CAP = 0.10


def repair(world: World) -> Repair:
    """Return the world's flaws among 1,000 states, and known-good states well inside."""
    states = np.random.default_rng(3).uniform(-1, 1, (1000, world.width))
    result = AuditResult("uniform", "findings", states, 1000, 0.0)
    flaws = verify([result], world.model, FLOOR, ())[0].new
    good = np.random.default_rng(4).uniform(-0.3, 0.3, (200, world.width))
    none = np.empty((0, world.width))
    # Refiners that learn from negatives have some, which say nothing of the flaws.
    data = world.model.demonstrations
    far = np.argsort(-data.support.distance(torch.tensor(states)).numpy(), kind="stable")
    data = attrs.evolve(data, negatives=read_only(states[far[:100]]))
    model = world.model.evolve(demonstrations=data)
    return Repair(model, flaws, none, good, model(good), FLOOR)


def half_closed(world: World) -> Repair:
    """Return the same where kernels of an earlier round have closed about half of the flaws."""
    asked = repair(world)
    states = asked.flaws.states
    left = states[states[:, 0] < np.median(states[:, 0])]
    near = np.linalg.norm(left[:, None] - asked.known_good, axis=2).min(axis=1)
    kernels = Kernels(
        id="r1-closing",
        refiner="closing",
        round=1,
        centers=left,
        radii=np.minimum(near, 0.2),
        strengths=np.full(len(left), 10.0),
    )
    model = asked.model.with_corrections([kernels])
    is_open = model(states) > FLOOR
    return attrs.evolve(
        asked,
        model=model,
        flaws=asked.flaws.take(np.flatnonzero(is_open)),
        closed=read_only(states[~is_open]),
    )


def worlds(subject: Subject) -> list[World]:
    """Return the worlds, made afresh, that offer what the refiner needs."""
    needs = subject.build().needs
    known: tuple[World, ...] = (Flat(), Cliff(), Mistaken())
    found = [w for w in known if all(n in NEEDS and NEEDS[n][1](repair(w).model) for n in needs)]
    if not found:
        raise RuledOut(f"no known-answer world offers all that it needs: {', '.join(needs)}")
    return found


def proposal(subject: Subject, asked: Repair) -> Proposal:
    """Return what the refiner proposes, with what it expects of it."""
    said = subject.build().propose(asked, subject.context())
    return said if isinstance(said, Proposal) else Proposal(said)


def mended(asked: Repair, said: Proposal) -> RewardModel:
    """Return the reward with what is proposed."""
    kept = [c for c in asked.model.corrections if c.id not in said.replaces]
    return asked.model.evolve(corrections=(*kept, *said.corrections))


@check("refiner")
def what_it_needs_is_known(subject: Subject) -> None:
    """It names what it needs of a reward in the words that the engine knows."""
    unknown = sorted(set(subject.target().needs) - set(NEEDS))
    require(not unknown, f"needs {unknown}, which nothing offers; known: {', '.join(NEEDS)}")


@check("refiner")
def what_it_expects_comes_true(subject: Subject) -> None:
    """Where it says what its corrections will do, they do it: closures and cost within 5 %."""
    for world in worlds(subject):
        asked = repair(world)
        said = proposal(subject, asked)
        model = mended(asked, said)
        still_open = model(asked.flaws.states) > FLOOR
        loss = asked.original - model(asked.known_good)
        if said.closes is not None:
            closed = int((~still_open).sum())
            near = abs(said.closes - closed) <= 0.05 * len(asked.flaws)
            require(near, f"expects to close {said.closes} flaws, and {closed} close")
        for name, did in (("worst_loss", loss.max()), ("mean_loss", loss.mean())):
            expected = getattr(said, name)
            near = expected is None or abs(expected - did) <= 0.05
            require(near, f"expects a {name} of {expected}, and it is {did:.3g}")
        wrong = [row for row in said.left if not still_open[row]]
        require(not wrong, f"leaves {len(wrong)} flaws that close")


@check("refiner")
def flaws_are_closed(subject: Subject) -> None:
    """What is proposed closes flaws of at least one known-answer world, and opens none.

    A refiner that tidies may instead replace the kernels that have closed some.
    """
    closed = 0
    probes = np.random.default_rng(6).uniform(-1, 1, (1000, 2))
    for world in worlds(subject):
        asked = repair(world)
        model = mended(asked, proposal(subject, asked))
        closed += int((model(asked.flaws.states) <= FLOOR).sum())
        opened = world.is_flaw(probes, model) & ~world.is_flaw(probes)
        require(not opened.any(), "what was no flaw becomes one")
    if not closed and subject.target().tidies:
        if any(proposal(subject, half_closed(world)).replaces for world in worlds(subject)):
            return
        raise RuledOut("it closes no flaw, and finds nothing to tidy among kernels")
    require(closed > 0, "no flaw is closed")


@check("refiner")
def what_it_replaces_is_not_missed(subject: Subject) -> None:
    """Asked about a reward with half of its flaws closed, it reopens none and keeps the cap."""
    for world in worlds(subject):
        asked = half_closed(world)
        said = proposal(subject, asked)
        model = mended(asked, said)
        reopened = int((model(asked.closed) > FLOOR).sum())
        require(reopened == 0, f"{reopened} closed flaws reopen")
        # What it adds without replacing anything is checked by itself.
        if said.replaces:
            loss = float((asked.original - model(asked.known_good)).max())
            require(loss <= CAP + 1e-9, f"a known-good state loses {loss:.3g}")


@check("refiner")
def known_good_states_are_spared(subject: Subject) -> None:
    """No known-good state well inside the limits loses more than 0.10."""
    for world in worlds(subject):
        asked = repair(world)
        model = mended(asked, proposal(subject, asked))
        loss = float((asked.original - model(asked.known_good)).max())
        require(loss <= CAP + 1e-9, f"a known-good state loses {loss:.3g}")


@check("refiner")
def corrections_can_be_taken_back(subject: Subject) -> None:
    """The former reward stays bit for bit what it was, and corrections have ids of their own."""
    probes = np.random.default_rng(5).uniform(-1, 1, (500, 2))
    for world in worlds(subject):
        asked = repair(world)
        before = asked.model(probes)
        corrections = proposal(subject, asked).corrections
        require(np.array_equal(asked.model(probes), before), "the former reward changed")
        ids = [correction.id for correction in corrections]
        require(len(set(ids)) == len(ids), "two corrections share an id")
        asked.model.with_corrections(corrections)(probes)
        require(np.array_equal(asked.model(probes), before), "the former reward changed")


@check("refiner")
def same_seed_same_corrections(subject: Subject) -> None:
    """A proposal can be repeated bit for bit."""
    for pair in zip(worlds(subject), worlds(subject), strict=True):
        first, second = (proposal(subject, repair(world)).corrections for world in pair)
        require(len(first) == len(second), "two proposals of one seed differ")
        for one, other in zip(first, second, strict=True):
            theirs = other.tensors()
            same = one.describe() == other.describe() and all(
                np.array_equal(array, theirs[name]) for name, array in one.tensors().items()
            )
            require(same, "two proposals of one seed differ")
