"""The auditor `coverage`: one budget, spent to the query, where it finds most that is new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iirl_auditors.adversarial.options import PgdOptions
from iirl_auditors.adversarial.pgd import Pgd
from iirl_auditors.blue_team.coverage import Arm, Coverage, doubtful, draw_arm, novel, weighted
from iirl_auditors.blue_team.options import CoverageOptions
from iirl_auditors.gradient_extrapolation.options import RayOptions
from iirl_auditors.gradient_extrapolation.ray import Ray
from iirl_auditors.out_of_distribution.options import SobolOptions
from iirl_auditors.out_of_distribution.sobol import Sobol
from iirl_engine import Auditor, Context
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.chain import read_chain
from iirl_engine.corrections.fade import Fade
from iirl_engine.errors import ChainError
from iirl_engine.flywheel import Flywheel
from iirl_engine.records import AuditResult, Concern
from iirl_engine.target import BudgetExceeded, Target
from iirl_engine.testing.worlds import FLOOR, Bowl, Cliff, Flat, Noisy, Spike, World


class Fixed(Auditor[Any]):
    """Does what it is told, and remembers where it was run."""

    family = "adversarial"

    def __init__(self, what: Any) -> None:
        super().__init__(None)
        self.what = what
        self.slices: list[tuple[str, int, list[float], list[float]]] = []

    def audit(self, target: Target, context: Context) -> Iterator[Any]:
        low, high = target.low.tolist(), target.high.tolist()
        self.slices.append((context.id, target.remaining, low, high))
        yield from self.what(target, context)


def members() -> dict[str, Auditor[Any]]:
    return {
        "pgd": Pgd(PgdOptions(steps=10)),
        "ray": Ray(RayOptions(steps=8)),
        "sobol": Sobol(SobolOptions()),
    }


def audit(world: World, led: dict[str, Auditor[Any]], budget: int = 2000, seed: int = 0) -> Any:
    coverage = Coverage(CoverageOptions(budget=budget))
    coverage.lead(led)
    job = AuditJob(coverage, world.model, FLOOR, Context("audit", "coverage", seed, 1))
    return run_audit(job)


def flaws(result: AuditResult, world: World) -> Any:
    (verified,) = verify([result], world.model, FLOOR, ())
    return verified


@pytest.mark.parametrize("budget", [1, 2, 19, 500, 2777])
@pytest.mark.parametrize("led", [True, False])
def test_the_budget_is_spent_to_the_query(budget: int, led: bool) -> None:
    result = audit(Cliff(), members() if led else {}, budget)
    assert result.status in ("clean", "findings")
    assert result.queries == budget


@pytest.mark.parametrize("world", [Cliff(), Flat(), Noisy(), Spike(), Cliff(20)])
def test_flaws_are_found_with_and_without_members(world: World) -> None:
    for led in (members(), {}):
        found = flaws(audit(world, led, 4000), world)
        assert found.result.status == "findings"
        assert world.is_flaw(found.new.states).all()


def test_a_sound_reward_is_clean() -> None:
    assert flaws(audit(Bowl(), members()), Bowl()).result.status == "clean"


def test_one_seed_finds_the_same_and_another_does_not() -> None:
    first, again, other = (audit(Cliff(), members(), seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.states, again.states)
    assert not np.array_equal(first.states, other.states)


def test_the_auditor_that_finds_regions_gets_the_budget() -> None:
    def good(target: Target, context: Context) -> Iterator[Tensor]:
        rng = context.generator()
        probes = target.low + (target.high - target.low) * torch.tensor(
            rng.random((target.remaining, len(target.low)))
        )
        yield probes[target.reward(probes) > target.floor]

    def bad(target: Target, context: Context) -> Iterator[Tensor]:
        target.reward(torch.zeros(target.remaining, len(target.low), dtype=torch.float64))
        yield target.low[None][:0]

    useful, useless = Fixed(good), Fixed(bad)
    result = audit(Flat(20), {"useful": useful, "useless": useless}, 20_000)
    assert result.queries == 20_000
    spent = [sum(size for _, size, _, _ in some.slices) for some in (useful, useless)]
    assert spent[0] > 3 * spent[1] > 0


def test_members_are_run_in_the_whole_domain_and_in_parts_of_it() -> None:
    member = Fixed(lambda target, context: Pgd(PgdOptions(steps=4)).audit(target, context))
    audit(Cliff(), {"a": member}, 4000)
    whole = [s for s in member.slices if (s[2], s[3]) == ([-1, -1], [1, 1])]
    parts = [s for s in member.slices if s not in whole]
    assert whole
    assert parts
    for _, _, low, high in parts:
        assert np.subtract(high, low).tolist() == pytest.approx([1, 1])
        assert min(low) >= -1
        assert max(high) <= 1
    ids = [name for name, _, _, _ in member.slices]
    assert len(set(ids)) == len(ids)  # every slice has a random stream of its own


def test_one_that_has_nothing_more_to_ask_is_not_asked_again() -> None:
    def little(target: Target, context: Context) -> Iterator[Tensor]:
        target.reward(target.high[None])
        yield target.high[None]

    member = Fixed(little)
    result = audit(Cliff(), {"a": member}, 3000)
    assert len(member.slices) == 2  # in the whole domain and in a part
    assert result.queries == 3000  # its own probes spend the rest


def test_flaws_that_a_member_passes_by_are_reported() -> None:
    def silent(target: Target, context: Context) -> Iterator[Tensor]:
        target.reward(target.high[None])
        yield target.high[None][:0]

    world = Cliff()
    found = flaws(audit(world, {"a": Fixed(silent)}, 200), world).new
    assert (found.states == 1).all(axis=1).any()


def test_a_crash_of_a_member_is_a_crash_and_what_was_found_is_kept() -> None:
    def broken(target: Target, context: Context) -> Iterator[Tensor]:
        yield target.high[None]
        raise RuntimeError("no more")

    result = audit(Cliff(), {"a": Fixed(broken)})
    assert (result.status, len(result.states)) == ("crashed", 1)
    assert "no more" in result.reason


def test_a_member_cannot_spend_more_than_its_slice() -> None:
    def greedy(target: Target, context: Context) -> Iterator[Tensor]:
        target.reward(torch.zeros(target.remaining + 1, 2, dtype=torch.float64))
        yield target.high[None]

    result = audit(Cliff(), {"a": Fixed(greedy)})
    assert result.status == "over-budget"
    assert result.queries == 0


def test_draws_count_for_the_domain_only_where_they_come_from_all_of_it() -> None:
    result = audit(Cliff(), {"sobol": Sobol(SobolOptions())}, 4000)
    assert result.draws > 0
    assert abs(result.flawed / result.draws - 0.125) < 0.06
    target = Target(Cliff().model, FLOOR, 100)
    part = target.part(50, torch.zeros(2), torch.ones(2))
    part.survey(torch.full((1, 2), 0.9, dtype=torch.float64))
    assert (target.draws, target.queries, part.draws, len(part.flaws)) == (0, 1, 1, 1)


def test_concerns_are_told_once_and_only_of_the_whole_domain() -> None:
    def worried(target: Target, context: Context) -> Iterator[Any]:
        target.reward(torch.zeros(target.remaining, 2, dtype=torch.float64))
        yield Concern("stillness", f"{context.id}: it pays", {}, np.zeros((1, 2)))

    result = audit(Cliff(), {"a": Fixed(worried)}, 4000)
    assert [concern.kind for concern in result.concerns] == ["stillness"]
    assert "whole" in result.concerns[0].text


def test_a_part_is_billed_to_the_whole_and_bound_by_it() -> None:
    target = Target(Cliff().model, FLOOR, 10)
    part = target.part(50)
    assert part.budget == part.remaining == 10
    states = torch.zeros(3, 2, dtype=torch.float64)
    part.reward_and_gradient(states)
    assert (part.queries, target.queries, target.remaining) == (6, 6, 4)
    target.reward(states)
    assert part.remaining == 1
    with pytest.raises(BudgetExceeded):
        part.reward(states)
    assert (part.queries, target.queries) == (6, 9)


def test_probes_go_where_a_flaw_is_possible_and_least_is_known() -> None:
    world = Flat()
    fade = Fade(id="f", refiner="r", round=1, norm="support", start=-0.1, end=0.0)
    model = world.model.with_corrections([fade])
    target = Target(model, FLOOR, 10_000)
    rng = np.random.default_rng(0)
    # Everything on the right was probed already.
    right = torch.tensor(rng.uniform([0, -1], [1, 1], (3000, 2)))
    target.reward(right)
    probes = doubtful(target, 200, rng)
    assert len(probes) == 200
    assert (target.violation(probes) > 0).all()
    assert not target.silenced(probes).any()
    assert float((probes[:, 0] < 0).double().mean()) > 0.6


def test_where_no_flaw_is_possible_nothing_is_asked() -> None:
    world = Flat()
    fade = Fade(id="f", refiner="r", round=1, norm="box", start=-0.1, end=0.0)
    world.model = world.model.with_corrections([fade])
    result = audit(world, {}, 1000)
    assert (result.status, result.queries) == ("clean", 0)


def test_weights_are_kept_and_the_hopeless_come_last() -> None:
    rng = np.random.default_rng(0)
    weight = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    first = [int(weighted(weight, 1, rng)[0]) for _ in range(4000)]
    assert np.mean(np.array(first) == 2) == pytest.approx(0.75, abs=0.03)
    assert 0 not in first
    assert sorted(weighted(weight, 9, rng).tolist()) == [0, 1, 2]


def test_novel_flaws_keep_apart() -> None:
    flaws_ = torch.tensor([[0.0], [0.05], [1.0], [2.0]], dtype=torch.float64)
    found = torch.tensor([[2.05]], dtype=torch.float64)
    assert novel(flaws_, found, 0.1).tolist() == [[0.0], [1.0]]
    assert novel(flaws_[:0], found, 0.1).shape == (0, 1)


def test_arms_that_were_never_drawn_come_first_and_then_the_better_more_often() -> None:
    rng = np.random.default_rng(0)
    poor = Arm("a", False, regions=0.0, queries=1000.0, slices=1)
    good = Arm("b", False, regions=5.0, queries=1000.0, slices=1)
    fresh = Arm("c", False)
    assert draw_arm([poor, good, fresh], 100, rng) is fresh
    drawn = [draw_arm([poor, good], 100, rng) for _ in range(300)]
    assert 0.9 < sum(arm is good for arm in drawn) / 300 < 1.0


# In a chain

CHAIN = """
report = []
[flywheel]
rounds = 1
[source]
use = "figure1"
[encoder]
use = "knn"
[mapping]
use = "linear"
cap = 2.0
[[norm]]
use = "support"
boundary = 0.34
[[audit]]
use = "pgd"
steps = 4
[[audit]]
use = "ray"
id = "rays"
[[audit]]
use = "sobol"
budget = 100
[[audit]]
use = "coverage"
budget = 3000
of = OF
"""


def test_members_run_under_it_alone(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CHAIN.replace("OF", '["pgd", "rays"]'))
    outcome = Flywheel.from_file(tmp_path / "c.toml", out=tmp_path / "run").run()
    audits = outcome.rounds[0].audits
    assert [(audit.auditor, audit.queries) for audit in audits] == [
        ("sobol", 100),
        ("coverage", 3000),
    ]
    assert audits[1].confirmed > 0
    again = read_chain(tmp_path / "run" / "chain.toml")
    assert again.audits[-1].options.of == ("pgd", "rays")


@pytest.mark.parametrize(
    ("of", "where", "told"),
    [
        ('["pdg"]', "audit[3].of[0]", "did you mean 'pgd'"),
        ('["pgd", "ray"]', "audit[3].of[1]", "did you mean 'rays'"),
        ('["coverage"]', "audit[3].of[0]", "leads others itself"),
        ('["pgd", "pgd"]', "audit[3].of[1]", "runs under coverage already"),
        ('"pgd"', "audit[3].of", "expected array of string"),
    ],
)
def test_wrong_members_are_told_at_the_check(
    of: str, where: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(CHAIN.replace("OF", of))
    with pytest.raises(ChainError) as raised:
        read_chain(tmp_path / "c.toml")
    text = " ".join(str(raised.value).split())
    assert where in text
    assert told in text


def test_an_auditor_that_leads_nobody_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Sobol leads no other"):
        Sobol(SobolOptions()).lead({})
