"""Regions of flaws: which flaws belong together, and what is probably left unseen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.api import Auditor, Context
from iirl_engine.audit import AuditJob, flaw_ids, run_audit
from iirl_engine.corrections.base import View
from iirl_engine.corrections.fade import Fade
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.knowledge import Knowledge
from iirl_engine.records import Flaws, Round
from iirl_engine.regions import describe, group, group_open, join, pack, region_scale
from iirl_engine.remaining import chao1, flawed_volume, remaining
from iirl_engine.reward import RewardModel
from iirl_engine.summary import summarize
from iirl_engine.target import Target
from iirl_engine.testing import run_chain
from iirl_engine.testing.worlds import FLOOR, WORLDS, Bowl, Cliff, Flat, World
from tests.figure1_world import autoencoders

Array = NDArray[np.float64]


class Islands(World):
    """The bowl, and two cones of radius 0.2 around (0.75, 0.375) and (0.75, -0.375)."""

    def flawed_share(self) -> float:
        return 2 * math.pi * (0.2 * (1 - FLOOR)) ** 2 / 4

    def reward(self, states: Tensor) -> Tensor:
        found = (1 - states.abs().amax(dim=1) / 0.5).clamp(min=0)
        for y in (0.375, -0.375):
            centre = torch.tensor([0.75, y], dtype=torch.float64)
            apart = torch.linalg.vector_norm(states - centre, dim=1)
            found = torch.maximum(found, (1 - apart / 0.2).clamp(min=0))
        return found


def flaws_of(world: World, count: int = 4000, seed: int = 0) -> Flaws:
    """Return the flaws among uniform states."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count, world.width))
    states = drawn[world.is_flaw(drawn)]
    with torch.no_grad():
        violations = world.model.violation(torch.tensor(states)).numpy()
    names = ("box",) * len(states), ("a",) * len(states)
    return Flaws(flaw_ids(states), states, world.model(states), violations, *names)


def labels(rows: list[Any], count: int) -> list[frozenset[int]]:
    found = [frozenset(r.tolist()) for r in rows]
    assert sorted(i for group_ in found for i in group_) == list(range(count))
    return found


# Grouping


def test_two_islands_are_two_regions_and_the_sound_water_between_them_is_not_asked_away() -> None:
    world = Islands()
    flaws = flaws_of(world)
    # At the scale of the norm, 0.8, one chain of steps would lead from island to island.
    assert region_scale(world.model) > 0.75
    rows, asked = group(flaws, world.model, FLOOR)
    assert len(rows) == 2
    assert asked > 0
    for members in rows:
        assert len({bool(y > 0) for y in flaws.states[members, 1]}) == 1


def test_one_flawed_side_of_the_domain_is_one_region() -> None:
    world = Cliff()
    flaws = flaws_of(world, 2000)
    rows, _ = group(flaws, world.model, FLOOR)
    assert len(rows) == 1
    (region,) = describe(flaws, rows, world.model, 3, np.ones(len(flaws), dtype=np.bool_))
    severity = flaws.rewards * flaws.violations
    worst = int(severity.argmax())
    assert (region.id, region.severity) == (flaws.ids[worst], severity[worst])
    assert (region.round, region.open, len(region.flaws)) == (3, len(flaws), len(flaws))
    assert region.low == tuple(flaws.states.min(axis=0))
    assert region.high == tuple(flaws.states.max(axis=0))
    away = np.linalg.norm(flaws.states - flaws.states[worst], axis=1)
    assert region.radius == pytest.approx(away.max())
    experts = world.model.demonstrations.states
    apart = np.linalg.norm(experts - flaws.states[worst], axis=1)
    assert region.distance == pytest.approx(apart.min())
    assert region.nearest == tuple(experts[apart.argmin()])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_flaws_changes_nothing(seed: int) -> None:
    world = Islands()
    flaws = flaws_of(world, 400)
    order = np.random.default_rng(seed).permutation(len(flaws))
    first, second = flaws, flaws.take(order)
    told = [
        {frozenset(some.ids[i] for i in rows) for rows in group(some, world.model, FLOOR)[0]}
        for some in (first, second)
    ]
    assert told[0] == told[1]


def test_the_worst_flaw_comes_first_in_its_region_and_the_worst_region_first() -> None:
    world = Islands()
    flaws = flaws_of(world, 1500)
    severity = flaws.rewards * flaws.violations
    rows, _ = group(flaws, world.model, FLOOR)
    labels(rows, len(flaws))
    assert len(rows) > 1
    for members in rows:
        assert (np.diff(severity[members]) <= 0).all()
    assert (np.diff([severity[members[0]] for members in rows]) <= 0).all()


@pytest.mark.parametrize("width", [1, 3, 64])
def test_a_packing_covers_every_state_and_its_representatives_keep_apart(width: int) -> None:
    states = np.random.default_rng(1).normal(size=(1300, width)) + 1e3
    radius = 0.6 * math.sqrt(width)
    chosen, nearest = pack(states, radius)
    apart = np.linalg.norm(states - states[chosen[nearest]], axis=1)
    assert apart.max() <= radius + 1e-6
    among = np.linalg.norm(states[chosen][:, None] - states[chosen], axis=2)
    assert (among + np.eye(len(chosen)) * 1e9).min() > radius - 1e-6


def test_links_that_hold_are_single_linkage() -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    points = np.random.default_rng(2).uniform(-1, 1, (300, 2))
    ours = join(points, 0.09, lambda probes: np.ones(len(probes), dtype=np.bool_))
    theirs = fcluster(linkage(points, "single"), 0.09, "distance")
    pairs = {(a, b) for a, b in zip(ours, theirs, strict=True)}
    assert len(pairs) == len(set(ours)) == len(set(theirs)) > 10


def test_links_that_fail_join_nothing() -> None:
    points = np.random.default_rng(2).uniform(-1, 1, (50, 2))
    alone = join(points, 0.5, lambda probes: np.zeros(len(probes), dtype=np.bool_))
    assert sorted(alone) == list(range(50))


def test_closed_flaws_keep_their_region() -> None:
    world = Cliff()
    flaws = flaws_of(world, 200)
    half = np.arange(len(flaws)) % 2 == 0
    first = group_open(flaws, half, world.model, FLOOR).flaws
    assert {bool(region) for region in np.array(first.regions)[~half]} == {False}
    second = group_open(first, ~half, world.model, FLOOR).flaws
    assert [r for r, h in zip(second.regions, half, strict=True) if h] == [
        r for r, h in zip(first.regions, half, strict=True) if h
    ]
    assert all(second.regions)


# What is left


def test_the_rule_of_three() -> None:
    assert flawed_volume(1000, 0) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert flawed_volume(100, 100) == 1.0
    assert flawed_volume(100, 3) == pytest.approx(0.0757, abs=2e-4)  # Clopper & Pearson's table


@pytest.mark.parametrize(("volume", "draws"), [(0.001, 2000), (0.02, 100), (0.2, 40)])
def test_the_bound_on_the_flawed_volume_holds_in_95_of_100(volume: float, draws: int) -> None:
    flawed = np.random.default_rng(0).binomial(draws, volume, 20_000)
    bounds = {k: flawed_volume(draws, int(k)) for k in np.unique(flawed)}
    assert np.mean([bounds[k] >= volume for k in flawed]) >= 0.945


def test_chao1_agrees_with_the_published_formula() -> None:
    # S = 5, f1 = 3, f2 = 1, n = 10: 5 + 0.9 * 3 * 2 / (2 * 2).
    expected, low, high = chao1([1, 1, 1, 2, 5])
    assert expected == pytest.approx(5 + 0.9 * 6 / 4)
    assert 5 < low < expected < high
    assert chao1([4, 7])[0] == 2.0
    assert chao1([]) == (0.0, 0.0, math.inf)


def test_chao1_covers_the_truth_when_classes_are_alike() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        counts = np.bincount(rng.integers(50, size=80), minlength=50)
        _, low, high = chao1(counts[counts > 0].tolist())
        covered += low <= 50 <= high
    assert covered / 400 >= 0.90


def test_good_turing_is_the_share_of_findings_that_stand_alone() -> None:
    left = remaining([1, 1, 2, 6], 0, 0)
    assert (left.unseen, left.once, left.twice, left.findings) == (0.2, 2, 1, 10)
    assert left.volume is None
    assert remaining([], 10, 0).unseen == 1.0


# Surveys


def uniform(world: World, count: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(-1, 1, (count, world.width)))


@pytest.mark.parametrize("cls", WORLDS)
def test_a_survey_estimates_the_flawed_share(cls: type[World]) -> None:
    world = cls()
    target = Target(world.model, FLOOR, 10**6)
    draws = uniform(world, 20_000)
    flaws = target.survey(draws)
    assert (target.draws, target.flawed) == (20_000, len(flaws))
    assert world.is_flaw(flaws.numpy()).all()
    share = world.flawed_share()
    sigma = math.sqrt(share * (1 - share) / 20_000)
    assert abs(target.flawed / target.draws - share) <= 5 * sigma
    forbidden = int((target.violation(draws) > 0).sum())
    assert target.queries == forbidden < 20_000


def test_a_survey_ends_with_its_budget_and_counts_only_what_was_answered() -> None:
    world = Cliff()
    target = Target(world.model, FLOOR, 100)
    draws = uniform(world, 1000)
    target.survey(draws)
    assert target.queries == 100
    forbidden = (target.violation(draws) > 0).cumsum(dim=0)
    assert target.draws == int((forbidden <= 100).sum())
    before = target.draws
    target.survey(draws[:0])
    assert target.draws == before


def test_draws_outside_the_domain_are_refused() -> None:
    target = Target(Cliff().model, FLOOR, 100)
    for wrong in (1.01, -1.01, torch.nan):
        with pytest.raises(ValueError, match="domain"):
            target.survey(torch.full((1, 2), wrong, dtype=torch.float64))
    assert target.queries == 0


def test_a_finished_fade_answers_for_the_reward() -> None:
    world = Flat()
    fade = Fade(id="f", refiner="r", round=1, norm="box", start=-0.1, end=0.0)
    model = world.model.with_corrections([fade])
    states = uniform(world, 5000)
    silent = model.silenced(states)
    assert torch.equal(silent, states.abs().amax(dim=1) >= 0.5)
    assert float(model.reward(states)[silent].max()) == 0
    target = Target(model, FLOOR, 10)
    assert len(target.survey(states)) == 0
    assert (target.queries, target.draws) == (0, 5000)


def test_a_fade_of_another_norm_and_kernels_answer_for_nothing_else() -> None:
    world = Flat()
    fade = Fade(id="f", refiner="r", round=1, norm="support", start=-0.1, end=0.0)
    bump = Kernels(
        id="k", refiner="r", round=1, centers=np.zeros((1, 2)), radii=[9.0], strengths=[9.0]
    )
    model = world.model.with_corrections([bump, fade])
    states = uniform(world, 2000)
    with torch.no_grad():
        beyond = model.norms["support"].violation(states) >= 0
    assert torch.equal(model.silenced(states), beyond)


@given(
    base=st.floats(-1e9, 1e9) | st.floats(0, 1),
    before=st.floats(0, 1e9),
    start=st.floats(-1e3, -1e-9),
    share=st.floats(0, 1),
    above=st.floats(0, 1e3),
)
@settings(max_examples=300, deadline=None)
def test_silence_survives_rounding(
    base: float, before: float, start: float, share: float, above: float
) -> None:
    end = start * share
    if not start < end <= 0:
        return
    fade = Fade(id="f", refiner="r", round=1, norm="n", start=start, end=end)
    states = torch.zeros(1, 1)
    violations = {"n": torch.tensor([end + above], dtype=torch.float64)}
    assert fade.silences(View(states, violations=violations)).item()
    reward = torch.tensor([base], dtype=torch.float64)
    taken = fade.suppression(View(states, reward, violations=violations))
    for order in ((before, taken), (taken, before)):
        left = reward
        for part in order:
            left = left - part
        assert float(left.clamp(0, 1)) == 0


class Liar(Auditor[Any]):
    """Declares states as uniform that lie outside the domain."""

    family = "adversarial"

    def audit(self, target: Target, context: Context) -> Any:
        yield target.survey(2 * target.high[None])


def test_a_survey_of_other_states_is_a_crash() -> None:
    from types import SimpleNamespace

    auditor = Liar(SimpleNamespace(budget=10))
    result = run_audit(AuditJob(auditor, Bowl().model, FLOOR, Context("audit", "a", 0, 1)))
    assert result.status == "crashed"
    assert (result.draws, result.flawed) == (0, 0)


# In a run

CHAIN = """
[flywheel]
rounds = {rounds}
{world}[[audit]]
use = "sobol"
budget = 512
[[audit]]
use = "pgd"
budget = 512
steps = 4
{refine}
[[report]]
use = "text"
[[report]]
use = "html"
"""


def run(tmp_path: Path, rounds: int, refine: str) -> Any:
    chain = CHAIN.format(rounds=rounds, world=autoencoders(50), refine=refine)
    return run_chain(chain, tmp_path)


def test_a_mended_run_tells_regions_and_what_is_left(tmp_path: Path) -> None:
    outcome = run(tmp_path, 3, '[[refine]]\nuse = "envelope"')
    first, last = outcome.rounds[0], outcome.rounds[-1]
    assert first.regions == len(outcome.regions) >= 1
    assert (first.open_regions, last.regions) == (0, 0)
    assert sum(len(region.flaws) for region in outcome.regions) == first.confirmed
    left = first.remaining
    assert left.regions == first.regions
    assert left.findings == sum(audit.found for audit in first.audits)
    assert left.flawed == first.audits[0].flawed > 0
    assert last.remaining.draws == last.audits[0].draws > 0
    assert last.remaining.volume == pytest.approx(1 - 0.05 ** (1 / last.remaining.draws))
    told = " ".join(summarize(outcome).split())
    said = f"no flaw in {last.remaining.draws:,} uniform draws: flawed volume <"
    assert said in told
    region = outcome.regions[0].id[:10]
    text, page = (path.read_text() for path in outcome.reports)
    assert said in " ".join(text.split())
    assert region in text
    assert region in page
    assert said in page.replace("&lt;", "<")
    body = outcome.to_json()
    assert body["regions"][0]["flaws"] == len(outcome.regions[0].flaws)
    assert body["rounds"][-1]["remaining"]["draws"] == last.remaining.draws


def test_regions_of_flaws_that_stay_open_are_grouped_anew_each_round(tmp_path: Path) -> None:
    outcome = run(tmp_path, 2, "")
    first, second = outcome.rounds
    assert second.regions == second.open_regions == len(outcome.regions)
    assert sum(region.open for region in outcome.regions) == outcome.open_flaws
    assert {region.round for region in outcome.regions} == {2}
    assert sum(len(r.flaws) for r in outcome.regions) == first.confirmed + second.confirmed
    knowledge = Knowledge(tmp_path / "run")
    flaws = knowledge.flaws(3)
    knowledge.close()
    assert set(flaws.regions) == {region.id for region in outcome.regions}
    assert flaws.take([0]).regions == (flaws.regions[0],)
    assert isinstance(second, Round)


def test_a_reward_without_flaws_has_no_region() -> None:
    model: RewardModel = Bowl().model
    empty = flaws_of(Bowl(), 100)
    assert group(empty, model, FLOOR) == ([], 0)
    assert describe(empty, [], model, 1, np.zeros(0, dtype=np.bool_)) == []
