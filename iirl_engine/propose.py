"""What refiners propose for the open flaws of a reward, each asked in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from iirl_engine.api import Context
from iirl_engine.blame import blame
from iirl_engine.chain import Step
from iirl_engine.corrections.base import Correction
from iirl_engine.corrections.restore import as_released
from iirl_engine.errors import DataError
from iirl_engine.repair import Proposal, Repair
from iirl_engine.reward import RewardModel

# What `Refiner.needs` may name: what that asks of a chain, and whether a reward offers it.
NEEDS: Mapping[str, tuple[str, Callable[[RewardModel], bool]]] = {
    "negatives": (
        "demonstrations with negatives, states that are known not to be expert",
        lambda model: len(model.demonstrations.negatives) > 0,
    ),
    "contrast": (
        "an encoder that learns from negatives",
        lambda model: model.encoder.abilities.negatives != "ignored",
    ),
    "unlearn": (
        "an encoder that unlearns exactly",
        lambda model: model.encoder.abilities.unlearning,
    ),
    "gradient": (
        "an encoder whose loss has a useful gradient",
        lambda model: model.encoder.abilities.gradient,
    ),
    "formula": (
        "an encoder and a mapping that declare their formula",
        lambda model: None not in (model.encoder.formula(), model.mapping.formula()),
    ),
    "norm": ("a norm", lambda model: len(model.norms) > 0),
}


def check_needs(refiners: Sequence[tuple[Step, Any]], model: RewardModel) -> None:
    """Refuse a chain whose reward lacks what one of its refiners needs.

    Raises
    ------
    DataError
        With everything that the first such refiner lacks.
    """
    for step, refiner in refiners:
        with blame(step, "say what it needs"):
            needs = sorted(refiner.needs)
            if unknown := set(needs) - set(NEEDS):
                raise ValueError(f"{sorted(unknown)} is none of {', '.join(NEEDS)}")
            lacking = [NEEDS[need][0] for need in needs if not NEEDS[need][1](model)]
        if lacking:
            raise DataError(
                f"refiner {step.entry.qualified} needs what this chain does not give it",
                where=f"refine {step.id}",
                got=f"lacking: {'; '.join(lacking)}",
                known=needs,
                next_step="give the chain what is lacking, or choose another refiner",
            )


@attrs.frozen(eq=False)
class Proposed:
    """What one refiner was asked, what it proposed, and the reward with that."""

    refiner: str
    repair: Repair
    proposal: Proposal
    model: RewardModel


def propose(
    step: Step, refiner: Any, repair: Repair, context: Context, suffix: str = ""
) -> Proposed:
    """Ask one refiner; what it proposes is returned as a release will hold it.

    Its corrections' ids get a suffix when it is asked twice in a round.

    Raises
    ------
    PluginError
        When it fails, or what it says of itself makes no sense.
    """
    with blame(step, "propose corrections"):
        said = refiner.propose(repair, context)
        if not isinstance(said, Proposal):
            said = Proposal(said)
        proposed = Proposal(
            [_named(as_released(c), suffix) for c in said.corrections],
            **_expected(said),
            left=_left(said, len(repair.flaws)),
            replaces=_replaced(said, repair.model),
        )
        kept = [c for c in repair.model.corrections if c.id not in proposed.replaces]
        model = repair.model.evolve(corrections=(*kept, *proposed.corrections))
        if len(repair.flaws):
            model(repair.flaws.states)
    return Proposed(step.id, repair, proposed, model)


def _named(correction: Correction, suffix: str) -> Correction:
    return attrs.evolve(correction, id=correction.id + suffix) if suffix else correction


def _expected(said: Proposal) -> dict[str, Any]:
    """Return the estimates of a proposal; what is no count or no number is an error."""
    if said.closes is not None and not said.closes >= 0:
        raise ValueError(f"expects to close {said.closes!r} flaws")
    told: dict[str, Any] = {"closes": None if said.closes is None else int(said.closes)}
    for name in ("worst_loss", "mean_loss"):
        value = getattr(said, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"expects a {name} of {value!r}")
        told[name] = None if value is None else float(value)
    return told


def _left(said: Proposal, asked: int) -> dict[int, str]:
    rows = {int(row): str(reason) for row, reason in said.left.items()}
    if unknown := [row for row in rows if not 0 <= row < asked]:
        raise ValueError(f"leaves flaw {unknown[0]}, and was asked about {asked}")
    return rows


def _replaced(said: Proposal, model: RewardModel) -> tuple[str, ...]:
    if unknown := set(said.replaces) - {correction.id for correction in model.corrections}:
        raise ValueError(f"replaces corrections that there are not: {sorted(unknown)}")
    return tuple(map(str, said.replaces))
