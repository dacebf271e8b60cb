"""Gates: they pass what changes nothing for the worse, and refuse what ruins everything."""

from __future__ import annotations

import attrs
import numpy as np
import torch

from iirl_engine.corrections.kernels import Kernels
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.reward import RewardModel
from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.refiners import repair
from iirl_engine.testing.worlds import ALLOWED, FLOOR, Bowl, Cliff, World


class _Ruined(World):
    """Everything allowed gets 0, everything forbidden 1."""

    def reward(self, states: torch.Tensor) -> torch.Tensor:
        return (states.abs().amax(dim=1) > ALLOWED).to(torch.float64)

    def flawed_share(self) -> float:
        return float(1 - ALLOWED**self.width)


def judged(subject: Subject, model: RewardModel, current: World) -> Judgement:
    """Return what the gate says of a reward that is to replace the current one."""
    asked = repair(current)
    flaws = repair(Cliff()).flaws
    was_open = np.asarray(current.model(flaws.states) > FLOOR)
    evidence = Evidence(
        current.model, flaws, was_open, asked.known_good, asked.original, FLOOR, "data"
    )
    evidence = attrs.evolve(evidence, first=current.model)
    added = model.corrections
    judgement: Judgement = subject.build().judge(
        Candidate(1, added, model), evidence, subject.context()
    )
    return judgement


def ruined() -> RewardModel:
    """Return a reward that endorses what is forbidden, with 20,000 corrections that do nothing."""
    centers = np.random.default_rng(7).uniform(-1, 1, (20_000, 2))
    idle = Kernels(
        id="idle",
        refiner="r",
        round=1,
        centers=centers,
        radii=np.full(len(centers), 0.01),
        strengths=np.zeros(len(centers)),
    )
    return _Ruined().model.with_corrections([idle])


@check("gate")
def a_sound_candidate_passes(subject: Subject) -> None:
    """A reward without flaws, unchanged where it is known to be good, is let through."""
    for current in (Bowl(), Cliff()):
        judgement = judged(subject, Bowl().model, current)
        require(judgement.ok, f"a sound candidate is refused: {judgement.reason}")


@check("gate")
def a_ruined_candidate_is_refused(subject: Subject) -> None:
    """A reward that endorses just what is forbidden, at a great cost, is refused with a reason."""
    judgement = judged(subject, ruined(), Bowl())
    require(not judgement.ok, "a reward that endorses only what is forbidden passes")
    require(judgement.reason, "the refusal has no reason")


@check("gate")
def blame_falls_on_the_candidates_own_corrections(subject: Subject) -> None:
    """Whom a refusal blames the candidate has added, by id, or `id[3]` for one kernel."""
    judgement = judged(subject, ruined(), Bowl())
    named = {name.partition("[")[0] for name in judgement.blames or ()}
    require(named <= {"idle"}, f"blames {sorted(named)}, which the candidate does not add")


@check("gate")
def the_same_candidate_gets_the_same_judgement(subject: Subject) -> None:
    """A gate is no lottery."""
    first, second = (judged(subject, ruined(), Cliff()) for _ in range(2))
    same = (first.ok, dict(first.numbers)) == (second.ok, dict(second.numbers))
    require(same, "two judgements of one candidate differ")
    finite = all(np.isfinite(value) for value in first.numbers.values())
    require(finite, "a number of the judgement is not finite")
