"""Closed flaws stay closed and the price keeps its cap, whoever refines and judges."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from iirl_engine import Gate, Judgement, Kernels, Proposal, Refiner
from iirl_engine.audit import verify
from iirl_engine.builtin.severity import Severity
from iirl_engine.chain import Step
from iirl_engine.chain_file import Settings
from iirl_engine.knowngood import KnownGood
from iirl_engine.mend import Mender
from iirl_engine.options import NoOptions
from iirl_engine.plugins import Plugins
from iirl_engine.records import AuditResult, Flaws
from iirl_engine.testing.worlds import FLOOR, WORLDS, World
from iirl_engine.trial import Turn

PLUGINS = Plugins()


class Wild(Refiner[NoOptions]):
    """Adds kernels of any size that suppress or lift, replaces corrections, claims anything."""

    def __init__(self, chance: np.random.Generator, tidies: bool) -> None:
        super().__init__(NoOptions())
        self.chance = chance
        self.tidies = tidies  # type: ignore[misc]

    def propose(self, repair: Any, context: Any) -> Any:
        chance, width = self.chance, repair.model.width
        made = []
        for number in range(chance.integers(0, 4)):
            count = int(chance.integers(1, 8))
            centers = chance.uniform(-1, 1, (count, width))
            if len(repair.flaws) and chance.random() < 0.7:
                rows = chance.integers(len(repair.flaws), size=count)
                centers = repair.flaws.states[rows]
            made.append(
                Kernels(
                    id=f"r{context.round}-{context.id}-{number}",
                    refiner=context.id,
                    round=context.round,
                    centers=centers,
                    radii=10 ** chance.uniform(-2, 0.5, count),
                    strengths=10 ** chance.uniform(-2, 1, count),
                    effect="lift" if chance.random() < 0.25 else "suppress",
                )
            )
        old = [c.id for c in repair.model.corrections if chance.random() < 0.3]
        if chance.random() < 0.5:
            return Proposal(made, closes=int(chance.integers(0, 1000)), replaces=old)
        return made


class Whimsical(Gate[NoOptions]):
    """Says yes or no, and blames anybody."""

    def __init__(self, chance: np.random.Generator, yes: float) -> None:
        super().__init__(NoOptions())
        self.chance, self.yes = chance, yes

    def judge(self, candidate: Any, evidence: Any, context: Any) -> Judgement:
        ok = self.chance.random() < self.yes
        blames = [None, (), tuple(c.id for c in candidate.corrections[:1])]
        return Judgement(context.id, ok, {}, "a whim", blames[self.chance.integers(3)])


def step(name: str) -> Step:
    return Step(name, SimpleNamespace(kind="refiner", qualified=name), None)  # type: ignore[arg-type]


def grown(flaws: Flaws | None, world: World, model: Any, chance: np.random.Generator) -> Flaws:
    """Return the flaws of a run after another audit of 80 random states."""
    states = chance.uniform(-1, 1, (80, world.width))
    result = AuditResult("uniform", "findings", states, len(states), 0.0)
    known = () if flaws is None else flaws.ids
    new = verify([result], model, FLOOR, known)[0].new
    if flaws is None:
        return new
    return Flaws(
        ids=flaws.ids + new.ids,
        states=np.concatenate([flaws.states, new.states]),
        rewards=np.concatenate([flaws.rewards, new.rewards]),
        violations=np.concatenate([flaws.violations, new.violations]),
        norms=flaws.norms + new.norms,
        auditors=flaws.auditors + new.auditors,
    )


@given(
    make=st.sampled_from(WORLDS),
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 4),
    refiners=st.integers(1, 3),
    tidies=st.booleans(),
    yes=st.lists(st.floats(0.3, 1.0), max_size=2),
    cap=st.floats(0.0, 0.3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_closed_flaws_never_reopen_and_the_cap_holds(
    make: type[World],
    seed: int,
    rounds: int,
    refiners: int,
    tidies: bool,
    yes: list[float],
    cap: float,
) -> None:
    chance = np.random.default_rng(seed)
    world = make()
    known_good = chance.uniform(-0.6, 0.6, (60, world.width))
    data = attrs.evolve(world.model.demonstrations, known_good=known_good)
    first = model = world.model.evolve(demonstrations=data)
    good = KnownGood.of(data, first, cap)
    mender = Mender(
        refiners=[(step(f"wild{i}"), Wild(chance, tidies)) for i in range(refiners)],
        gates=[(step(f"whim{i}"), Whimsical(chance, p)) for i, p in enumerate(yes)],
        triage=(step("severity"), Severity(NoOptions())),
        plugins=PLUGINS,
        settings=Settings(),
        first=first,
        good=good,
        contested=known_good,
        data="",
        progress=lambda line: None,
        log=lambda number, text: None,
    )
    flaws, closed = None, np.empty((0, world.width))
    for number in range(1, rounds + 1):
        before = 0 if flaws is None else len(flaws)
        flaws = grown(flaws, world, model, chance)
        was_open = np.asarray(model(flaws.states) > FLOOR) if len(flaws) else np.zeros(0, bool)
        is_new = np.arange(len(flaws)) >= before
        rows = [np.flatnonzero(was_open)] if was_open.any() else []
        mended = mender.mend(Turn(number, model, False, flaws, was_open, is_new, rows))
        assert len(mended.attempts) <= 16
        if mended.model is not None:
            event("released")
            model = mended.model
        is_open = np.asarray(model(flaws.states) > FLOOR) if len(flaws) else was_open
        # A flaw that no release endorses is closed for ever, and has no reason to stay open.
        assert set(mended.reasons) == {flaws.ids[row] for row in np.flatnonzero(is_open)}
        assert set(mended.closed_by) <= {flaws.ids[r] for r in np.flatnonzero(was_open & ~is_open)}
        closed = np.concatenate([closed, flaws.states[~is_open]])
        assert not (model(closed) > FLOOR).any() if len(closed) else True
        assert (good.original - model(good.states) <= cap + 1e-9).all()


def test_the_property_is_not_empty() -> None:
    """Without the engine's own check a wild refiner reopens flaws and breaks the cap."""
    chance = np.random.default_rng(0)
    broken = 0
    for _ in range(20):
        world = WORLDS[2]()
        flaws = grown(None, world, world.model, chance)
        repair = SimpleNamespace(model=world.model, flaws=flaws)
        context = SimpleNamespace(round=1, id="w")
        said = Wild(chance, False).propose(repair, context)
        added = said.corrections if isinstance(said, Proposal) else said
        good = chance.uniform(-0.5, 0.5, (60, 2))
        lost = world.model(good) - world.model.with_corrections(added)(good)
        broken += int(lost.max() > 0.3)
    assert broken > 5
