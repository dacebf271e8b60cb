"""Auditors: they find what is there, within their budget, and touch nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_auditors.adversarial.archive import Archive
from iirl_auditors.adversarial.cma_es import CmaEs
from iirl_auditors.adversarial.lbfgs import Lbfgs
from iirl_auditors.adversarial.options import (
    ArchiveOptions,
    CmaEsOptions,
    LbfgsOptions,
    PgdOptions,
)
from iirl_auditors.adversarial.pgd import Pgd
from iirl_auditors.gradient_extrapolation.gradient_flow import GradientFlow, flow
from iirl_auditors.gradient_extrapolation.lipschitz import Lipschitz, slope, steeper_half
from iirl_auditors.gradient_extrapolation.monotone_escape import MonotoneEscape, rise
from iirl_auditors.gradient_extrapolation.options import (
    GradientFlowOptions,
    LipschitzOptions,
    MonotoneEscapeOptions,
    RayOptions,
    SaturationOptions,
)
from iirl_auditors.gradient_extrapolation.ray import Ray, ray
from iirl_auditors.gradient_extrapolation.saturation import Saturation
from iirl_auditors.out_of_distribution.flow import Flow
from iirl_auditors.out_of_distribution.gmm import Gmm
from iirl_auditors.out_of_distribution.isolation_forest import IsolationForest
from iirl_auditors.out_of_distribution.knn import Knn
from iirl_auditors.out_of_distribution.lof import Lof
from iirl_auditors.out_of_distribution.mahalanobis import Mahalanobis
from iirl_auditors.out_of_distribution.options import (
    FlowOptions,
    GmmOptions,
    IsolationForestOptions,
    KnnOptions,
    LofOptions,
    MahalanobisOptions,
    ShellOptions,
    SobolOptions,
)
from iirl_auditors.out_of_distribution.shell import Shell
from iirl_auditors.out_of_distribution.sobol import Sobol
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.target import BudgetExceeded, Target
from iirl_engine.testing.worlds import OneMinus

FLOOR = 0.01
AUDITORS: list[tuple[Any, Any]] = [
    (Sobol, SobolOptions(budget=1000)),
    (Shell, ShellOptions(budget=1000)),
    (Knn, KnnOptions(budget=1000)),
    (Lof, LofOptions(budget=1000)),
    (Gmm, GmmOptions(budget=1000)),
    (Mahalanobis, MahalanobisOptions(budget=1000)),
    (IsolationForest, IsolationForestOptions(budget=1000, trees=20)),
    (Flow, FlowOptions(budget=1000, steps=20)),
    (Ray, RayOptions(budget=1000, steps=8)),
    (GradientFlow, GradientFlowOptions(budget=1000, steps=8)),
    (Lipschitz, LipschitzOptions(budget=1000)),
    (Saturation, SaturationOptions(budget=1000)),
    (MonotoneEscape, MonotoneEscapeOptions(budget=1000, steps=8)),
    (Pgd, PgdOptions(budget=1000)),
    (Pgd, PgdOptions(budget=1000, rule="l2")),
    (Pgd, PgdOptions(budget=1000, rule="linf")),
    (Lbfgs, LbfgsOptions(budget=1000)),
    (CmaEs, CmaEsOptions(budget=1000)),
    (Archive, ArchiveOptions(budget=1000)),
]


class Loss(iirl.Encoder[NoOptions]):
    """Any function of states as expertness loss."""

    def __init__(self, function: Any) -> None:
        super().__init__(NoOptions())
        self.function = function
        self.calls = 0

    def fit(self, demonstrations: iirl.Demonstrations, context: iirl.Context) -> None: ...

    def encode(self, states: Tensor) -> iirl.Code:
        self.calls += len(states)
        return iirl.Code(states, self.function(states))

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Any, demonstrations: iirl.Demonstrations) -> None: ...


def world(loss: Any, width: int = 2) -> iirl.RewardModel:
    """Experts around 0, allowed up to a distance of 0.3, in the cube [-1, 1]^d."""
    expert = check(0.05 * np.random.default_rng(0).normal(size=(20, width)))
    norm = SupportNorm(SupportOptions(boundary=0.3))
    norm.fit(expert, iirl.Context("norm", "support", 0, 0))
    domain = iirl.Domain((-1.0,) * width, (1.0,) * width)
    mapping = OneMinus(NoOptions())
    return iirl.RewardModel(Loss(loss), mapping, {"support": norm}, expert, domain)


def audit(cls: Any, options: Any, model: iirl.RewardModel, seed: int = 0) -> Any:
    context = iirl.Context("audit", "a", seed, 1)
    return run_audit(AuditJob(cls(options), model, FLOOR, context))


def bowl(states: Tensor) -> Tensor:
    return 3 * torch.linalg.vector_norm(states, dim=1)


def spill(states: Tensor) -> Tensor:
    """A bowl that leaks: the reward falls along the first feature far too slowly."""
    return torch.linalg.vector_norm(states * torch.tensor([0.5, 4.0]), dim=1)


@pytest.mark.parametrize(("cls", "options"), AUDITORS)
class TestEveryAuditor:
    def test_a_sound_reward_is_clean(self, cls: Any, options: Any) -> None:
        model = world(lambda s: bowl(s) * 1.2)
        result = audit(cls, options, model)
        (verified,) = verify([result], model, FLOOR, ())
        assert verified.result.status == "clean"
        assert len(verified.new) == 0

    def test_a_flaw_is_found_and_holds(self, cls: Any, options: Any) -> None:
        model = world(spill)
        (verified,) = verify([audit(cls, options, model)], model, FLOOR, ())
        assert verified.result.status == "findings"
        flaws = verified.new
        assert len(flaws) > 0
        assert (model(flaws.states) > FLOOR).all()
        assert (model.demonstrations.support.distance(torch.tensor(flaws.states)) > 0.3).all()
        assert (np.abs(flaws.states) <= 1).all()

    @pytest.mark.parametrize("budget", [1, 2, 19, 1000, 2777])
    def test_the_budget_is_kept_to_the_query(self, cls: Any, options: Any, budget: int) -> None:
        import attrs

        model = world(spill)
        result = audit(cls, attrs.evolve(options, budget=budget), model)
        assert result.status in ("clean", "findings")
        assert result.queries <= budget
        # A value is one pass of the encoder and one query, a gradient one pass and two.
        assert model.encoder.calls <= result.queries

    def test_one_seed_finds_the_same_and_another_does_not(self, cls: Any, options: Any) -> None:
        first, second = audit(cls, options, world(spill)), audit(cls, options, world(spill))
        other = audit(cls, options, world(spill), seed=1)
        assert np.array_equal(first.states, second.states)
        assert not np.array_equal(first.states, other.states)

    def test_global_randomness_is_left_alone(self, cls: Any, options: Any) -> None:
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        audit(cls, options, world(spill))
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002

    def test_a_reward_of_nan_is_no_finding(self, cls: Any, options: Any) -> None:
        model = world(lambda s: spill(s) * torch.nan)
        (verified,) = verify([audit(cls, options, model)], model, FLOOR, ())
        assert verified.result.status == "clean"

    def test_a_reward_that_raises_is_a_crash_and_not_clean(self, cls: Any, options: Any) -> None:
        def broken(states: Tensor) -> Tensor:
            raise RuntimeError("no reward today")

        result = audit(cls, options, world(broken))
        assert result.status == "crashed"
        assert "no reward today" in result.reason

    def test_a_flat_reward_is_found_to_be_endorsed_everywhere(self, cls: Any, options: Any) -> None:
        model = world(lambda s: 0 * s.sum(dim=1))
        (verified,) = verify([audit(cls, options, model)], model, FLOOR, ())
        assert len(verified.new) > 0

    def test_one_feature_and_many_features_work(self, cls: Any, options: Any) -> None:
        for width in (1, 50):
            result = audit(cls, options, world(lambda s: 0.1 * s.abs().amax(dim=1), width))
            assert result.status == "findings"


class Greedy(iirl.Auditor[SobolOptions]):
    """Yields one batch, then asks for more than it has."""

    family = "adversarial"

    def audit(self, target: Target, context: iirl.Context) -> Any:
        yield torch.full((1, 2), 0.9, dtype=torch.float64)
        target.reward(torch.zeros(target.remaining + 1, 2, dtype=torch.float64))


def test_an_overdrawn_budget_is_reported_and_what_was_found_is_kept() -> None:
    result = audit(Greedy, SobolOptions(budget=5), world(spill))
    assert result.status == "over-budget"
    assert result.queries == 0
    assert len(result.states) == 1


def test_queries_are_counted_as_documented() -> None:
    target = Target(world(spill), FLOOR, 10)
    states = torch.zeros(3, 2, dtype=torch.float64)
    target.reward(states)
    assert target.remaining == 7
    target.reward_and_gradient(states)
    assert target.remaining == 1
    target.violation_and_gradient(states)
    assert target.remaining == 1
    with pytest.raises(BudgetExceeded, match="asked for 3 queries with 1 left"):
        target.reward(states)


def test_a_shell_is_probed_beyond_the_limit_and_no_farther_than_it_is_thick() -> None:
    asked: list[Tensor] = []

    def seen(states: Tensor) -> Tensor:
        asked.append(states)
        return bowl(states)

    model = world(seen)
    auditor = Shell(ShellOptions(budget=700, thickness=0.5))
    target = Target(model, FLOOR, 700)
    asked.clear()
    list(auditor.audit(target, iirl.Context("audit", "a", 0, 1)))
    probes = torch.cat(asked)
    apart = model.demonstrations.support.distance(probes)
    assert len(probes) == target.queries == 700
    assert target.scale == 0.3
    assert float(apart.min()) > 0.3
    assert float(apart.max()) <= 1.5 * 0.3
    assert bool((probes.abs() <= 1).all())


def test_a_shell_is_left_alone_in_many_features() -> None:
    for width, queries in ((4, 100), (5, 16)):
        target = Target(world(bowl, width), FLOOR, 100)
        list(Shell(ShellOptions(budget=100)).audit(target, iirl.Context("audit", "a", 0, 1)))
        assert target.queries == queries


def test_rays_end_at_the_edge_of_the_domain() -> None:
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
    starts = torch.tensor([[0.0, 0.0], [0.5, 1.0]])
    directions = torch.tensor([[1.0, 0.0], [0.0, -3.0]])
    probes = ray(starts, directions, low, high, 4, torch.zeros(2, 1)).reshape(2, 4, 2)
    assert probes[0].tolist() == [[0.0, 0.0], [0.25, 0.0], [0.5, 0.0], [0.75, 0.0]]
    assert probes[1, :, 0].tolist() == [0.5] * 4
    assert probes[1, :, 1].tolist() == pytest.approx([1.0, 0.25, -0.5, -1.25])


def test_a_flow_climbs_and_never_leads_back() -> None:
    away = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    uphill = torch.tensor([[-5.0, 1e-9], [-3.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    steered, flat, climbing = flow(uphill, away)
    diagonal = 0.5**0.5
    assert steered.tolist() == pytest.approx([diagonal, diagonal])
    assert flat.tolist() == [1.0, 0.0]
    assert climbing.tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_a_chord_is_halved_towards_the_jump() -> None:
    chords = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)

    def jump(states: Tensor) -> Tensor:
        return (states[:, 0] > 0.3).double()

    values = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    for halving in range(1, 6):
        middle = chords.mean(dim=1)
        chords, values = steeper_half(chords, values, middle, jump(middle))
        assert chords[0, 0, 0] <= 0.3 <= chords[0, 1, 0]
        width = torch.ones(1, dtype=torch.float64)
        assert slope(chords, values, width).tolist() == pytest.approx([2.0**halving])


def test_a_rise_is_counted_from_nearer_states_alone() -> None:
    distance = torch.tensor([[0.0, 1.0, 2.0, 1.5]], dtype=torch.float64)
    reward = torch.tensor([[0.9, 0.2, 0.5, 0.1]], dtype=torch.float64)
    assert rise(distance, reward)[0].tolist() == pytest.approx([-torch.inf, -0.7, 0.4, -0.1])


def test_monotone_escape_homes_in_on_a_crest_that_a_walk_steps_over() -> None:
    def ridge(states: Tensor) -> Tensor:
        radius = torch.linalg.vector_norm(states, dim=1)
        return 1 - 0.9 * torch.exp(-(((radius - 0.8) / 0.05) ** 2))

    model = world(ridge)
    found = audit(MonotoneEscape, MonotoneEscapeOptions(budget=2000, steps=8), model)
    radius = np.linalg.norm(found.states, axis=1)
    assert found.queries == 2000
    # A step is 0.25 long and four halvings leave a sixteenth of it.
    assert np.sort(np.abs(radius - 0.8))[:50].max() < 0.25 / 16


def test_lipschitz_spends_its_budget_to_the_query() -> None:
    for budget in (1, 2, 17, 500):
        result = audit(Lipschitz, LipschitzOptions(budget=budget), world(spill))
        assert budget - 12 <= result.queries <= budget


def test_saturation_starts_where_episodes_start() -> None:
    """The only plateau lies on the way from the first state of the second episode."""
    states = np.concatenate([np.zeros((10, 2)), [[0.9, 0.9]], np.zeros((9, 2))])
    data = check(states, episode=np.repeat([0, 1], 10))
    norm = SupportNorm(SupportOptions(boundary=0.3))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))

    def plateau(s: Tensor) -> Tensor:
        return (s - torch.tensor([0.6, 0.6])).abs().amax(dim=1).gt(0.02).double() + 0 * s[:, 0]

    domain = iirl.Domain((-1.0,) * 2, (1.0,) * 2)
    parts = Loss(plateau), OneMinus(NoOptions()), {"support": norm}
    options = SaturationOptions(budget=512)
    found = audit(Saturation, options, iirl.RewardModel(*parts, data, domain))
    assert len(found.states) > 0
    blind = iirl.RewardModel(*parts, check(states), domain)
    assert len(found.states) > len(audit(Saturation, options, blind).states)
