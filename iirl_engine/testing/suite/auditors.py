"""Auditors: the same findings for the same seed, within the budget, touching nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from torch import Tensor

from iirl_engine.api import Auditor, Context
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.records import AuditResult
from iirl_engine.reward import RewardModel
from iirl_engine.target import Target
from iirl_engine.testing.kit import NotApplicable, Subject, check, require
from iirl_engine.testing.suite.process_state import kept
from iirl_engine.testing.worlds import FLOOR, WORLDS, Bowl, Cliff, Given, World, flat

BUDGET = 4096
# Where nothing has to be found.
SHORT = 1024


def audit(subject: Subject, model: RewardModel, *, seed: int = 0, budget: int = 0) -> AuditResult:
    """Run the auditor once; whatever it does to the process is undone."""
    with kept():
        return run_audit(job(subject, model, seed=seed, budget=budget))


def of_world(subject: Subject, world: type[World]) -> AuditResult:
    """Return the audit of a world in two features, run once for all checks that look at it.

    One run says it all: that another gives the same is a check of its own.
    """
    if world.__name__ not in subject.seen:
        subject.seen[world.__name__] = audit(subject, world().model)
    result: AuditResult = subject.seen[world.__name__]
    return result


def job(subject: Subject, model: RewardModel, *, seed: int = 0, budget: int = 0) -> AuditJob:
    """Return one audit, to be run."""
    options = subject.options()
    if not hasattr(options, "budget"):
        raise NotApplicable("there is no option budget")
    auditor = subject.build(budget=budget or max(BUDGET, options.budget))
    return AuditJob(auditor, model, FLOOR, subject.context(seed))


@check("auditor")
def same_seed_same_findings(subject: Subject) -> None:
    """A run can be repeated: one seed gives the same states and concerns, in the same order."""
    first, second = of_world(subject, Cliff), audit(subject, Cliff().model)
    require(np.array_equal(first.states, second.states), "two audits of one seed differ")
    told = [[concern.to_json() for concern in result.concerns] for result in (first, second)]
    require(told[0] == told[1], "two audits of one seed differ in their concerns")


@check("auditor")
def global_randomness_is_untouched(subject: Subject) -> None:
    """Random numbers come from the context, never from or into a global generator."""
    with kept() as before:
        run_audit(job(subject, Cliff().model))
        used = before.generators_used()
    require(not used, f"it used the global generator of {' and '.join(used)}")


@check("auditor")
def reward_is_untouched(subject: Subject) -> None:
    """An audit reads: the reward answers, and asks for gradients, as before."""
    world = Cliff()
    probes = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    before, experts = world.model(probes), world.model.demonstrations.states.copy()
    corrections, domain = world.model.corrections, world.model.domain
    with kept():
        enabled = torch.is_grad_enabled()
        run_audit(job(subject, world.model))
        switched = torch.is_grad_enabled() != enabled
    require(np.array_equal(world.model(probes), before), "the reward changed")
    require(np.array_equal(world.model.demonstrations.states, experts), "the experts changed")
    unchanged = world.model.corrections == corrections and world.model.domain == domain
    require(unchanged, "the corrections or the domain changed")
    require(not switched, "gradients were switched on or off")


@check("auditor")
def budget_is_kept(subject: Subject) -> None:
    """No budget is exceeded by a query, however small or odd it is."""
    for budget in (1, 7, 100, 1001):
        result = audit(subject, Cliff().model, budget=budget)
        require(result.status != "over-budget", f"with a budget of {budget} it {result.reason}")
        require(result.status != "crashed", f"with a budget of {budget}: {result.reason}")


@check("auditor")
def findings_have_the_right_shape(subject: Subject) -> None:
    """What is yielded is `[m, d]`, for one feature and for many."""
    for width in (1, 2, 20):
        result = audit(subject, Cliff(width).model, budget=SHORT)
        require(result.status != "crashed", f"with {width} features: {result.reason}")
        states = result.states
        require(np.isfinite(states).all(), f"with {width} features it reports NaN or Inf")


@check("auditor")
def concerns_are_few(subject: Subject) -> None:
    """A person reads them: of one kind there is one, and there are a dozen at most."""
    for world in WORLDS:
        said = [concern.kind for concern in of_world(subject, world).concerns]
        require(len(said) <= 12, f"of {world.__name__} it tells {len(said)} concerns")
        twice = sorted({kind for kind in said if said.count(kind) > 1})
        require(not twice, f"of {world.__name__} it tells twice: {', '.join(twice)}")


@check("auditor")
def sound_reward_is_clean(subject: Subject) -> None:
    """Where there is no flaw, none is confirmed; a proof may stay undecided."""
    (verified,) = verify([of_world(subject, Bowl)], Bowl().model, FLOOR, ())
    status = verified.result.status
    require(status in ("clean", "undecided"), f"a sound reward is {status}")


@check("auditor")
def known_flaws_are_found(subject: Subject) -> None:
    """Every known-answer world's flaw is found, or the auditor declares why it cannot be.

    `blind_to` of the class maps a world's name to the reason. What is declared must be true.
    """
    blind = dict(getattr(subject.target(), "blind_to", {}))
    strangers = blind.keys() - {world.__name__ for world in WORLDS}
    require(not strangers, f"blind_to names no known world: {', '.join(strangers)}")
    for world in WORLDS:
        if world is not Bowl:
            found = _finds(subject, world)
            if world.__name__ in blind:
                require(not found, f"declared blind to {world.__name__}, it finds its flaw")
            else:
                require(found, f"the flaw of {world.__name__} is not found")


@check("auditor")
def surveys_are_uniform(subject: Subject) -> None:
    """What is declared as a uniform draw hits flaws as often as their volume says.

    Six standard deviations are allowed; points that fill space evenly stay well below that.
    """
    for cls in WORLDS:
        world = cls()
        result = of_world(subject, cls)
        share = world.flawed_share()
        spread = math.sqrt(share * (1 - share) / max(result.draws, 1))
        off = abs(result.flawed / max(result.draws, 1) - share) if result.draws else 0.0
        require(
            off <= 6 * spread + 1 / max(result.draws, 1),
            f"in {world} {result.flawed} of {result.draws} draws are flaws, and the flawed share "
            f"is {share:.3g}",
        )


@check("auditor")
def bad_rewards_are_survived(subject: Subject) -> None:
    """A reward of NaN or Inf is no finding and no crash, and no number of a concern."""
    for value in (torch.nan, torch.inf, -torch.inf):
        world = Bowl()
        model = world.model.evolve(encoder=Given(functools.partial(_constant, value)))
        result = audit(subject, model, budget=SHORT)
        require(result.status != "crashed", f"with a reward of {value}: {result.reason}")


@check("auditor")
def awkward_demonstrations_are_survived(subject: Subject) -> None:
    """One state or two, constant features, states twice, more features than states: no crash.

    Few states of one feature are looked at where shapes are.
    """
    rng = np.random.default_rng(0)
    kinds = {
        "a single state": rng.normal(size=(1, 3)),
        "two states": rng.normal(size=(2, 2)),
        "one constant feature": np.c_[rng.normal(size=(30, 2)), np.zeros(30)],
        "constant features": np.full((30, 2), 2.5),
        "every state twice": np.repeat(rng.normal(size=(20, 2)), 2, axis=0),
        "64 features of five states": rng.normal(size=(5, 64)),
    }
    for kind, states in kinds.items():
        result = audit(subject, flat(states), budget=256)
        require(result.status != "crashed", f"with {kind}: {result.reason}")
        require(result.status != "over-budget", f"with {kind} it {result.reason}")
        require(bool(np.isfinite(result.states).all()), f"with {kind} it reports NaN or Inf")


@check("auditor")
def crash_is_reported(subject: Subject) -> None:
    """A reward that raises ends the audit as crashed: it is not swallowed and called clean."""

    def broken(states: Tensor) -> Tensor:
        raise RuntimeError("the reward raised")

    world = Cliff()
    result = audit(subject, world.model.evolve(encoder=Given(broken)))
    require(result.status == "crashed", f"a reward that raises gives {result.status!r}")


@check("auditor")
def members_are_led_within_the_budget(subject: Subject) -> None:
    """An auditor that leads others bills them to its budget and reports what they find.

    Made for auditors with an option that was declared with `members=True`.
    """
    fields = attrs.fields(subject.entry.offer.options)
    leading = [field.name for field in fields if field.metadata.get("members")]
    if not leading:
        return
    for budget in (1, 7, 100, BUDGET):
        world, member = Cliff(), _Corner()
        auditor = subject.build(budget=budget, **dict.fromkeys(leading, ("corner",)))
        auditor.lead({"corner": member})
        with kept():
            result = run_audit(AuditJob(auditor, world.model, FLOOR, subject.context()))
        require(result.queries <= budget, f"with a budget of {budget} it spent {result.queries}")
        require(result.status in ("clean", "findings"), f"with {budget}: {result.reason}")
    require(member.asked, "its member was not run")
    found = bool(len(result.states)) and (result.states == 1).all(axis=1).any()
    require(found, "what its member found is not reported")


class _Corner(Auditor[None]):
    """Reports the corner of the domain where the cliff is."""

    family = "adversarial"

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = 0

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        if target.remaining:
            self.asked += 1
            corner = target.high[None]
            yield corner[target.reward(corner) > target.floor]


@check("auditor")
def options_have_a_budget(subject: Subject) -> None:
    """Every auditor has the option `budget`, its reward queries."""
    fields = attrs.fields_dict(subject.options_class())
    require("budget" in fields, "there is no option budget")


def _constant(value: float, states: Tensor) -> Tensor:
    return 0 * states.sum(dim=1) + value


def _finds(subject: Subject, cls: type[World]) -> bool:
    world = cls()
    (verified,) = verify([of_world(subject, cls)], world.model, FLOOR, ())
    flaws = verified.new
    return len(flaws) > 0 and bool(world.is_flaw(flaws.states).all())
