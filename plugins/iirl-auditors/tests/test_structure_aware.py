"""Reading autoencoders and corrections: what is found, what it costs, and each part by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_auditors.hooks import iirl_auditors
from iirl_auditors.out_of_distribution.options import SobolOptions
from iirl_auditors.out_of_distribution.sobol import Sobol
from iirl_auditors.structure_aware.candidates import Candidates, limit, readable
from iirl_auditors.structure_aware.correction_probe import CorrectionProbe, rims, seams
from iirl_auditors.structure_aware.decoder_image import DecoderImage
from iirl_auditors.structure_aware.fixed_point import FixedPoint, accelerated
from iirl_auditors.structure_aware.options import (
    CorrectionProbeOptions,
    DecoderImageOptions,
    FixedPointOptions,
    PreimageOptions,
)
from iirl_auditors.structure_aware.preimage import Preimage
from iirl_auditors.structure_aware.valleys import flat_directions, jacobians
from iirl_encoders.mappings import Exp
from iirl_encoders.moe import MoeAutoencoder
from iirl_encoders.options import ExpOptions, MoeAutoencoderOptions
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.builtin.norms import LinearNorm, SupportNorm
from iirl_engine.builtin.options import LinearOptions, SupportOptions
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.demonstrations import check
from iirl_engine.records import Domain
from iirl_engine.reward import RewardModel
from iirl_engine.target import Target

WIDTH, FLOOR = 8, 0.1
READERS: list[tuple[Any, Any]] = [
    (FixedPoint, FixedPointOptions(budget=3000)),
    (Preimage, PreimageOptions(budget=3000)),
]


@pytest.fixture(scope="module", params=[1, 3], ids=["one expert", "three experts"])
def mixture(request: pytest.FixtureRequest) -> RewardModel:
    """A mixture of autoencoders on a curve in eight dimensions; it endorses far more than that.

    The code of one expert has 4 entries, narrower than a state; that of three has 12.
    """
    generator = np.random.default_rng(0)
    t = generator.uniform(-1, 1, (600, 1))
    waves = np.sin(t * np.linspace(1, 3, WIDTH) + np.arange(WIDTH))
    data = check(waves + 0.01 * generator.normal(size=waves.shape))
    encoder = MoeAutoencoder(MoeAutoencoderOptions(experts=request.param, bottleneck=3, steps=300))
    encoder.fit(data, iirl.Context("encoder", "moe", 0, 0))
    mapping = Exp(ExpOptions())
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, iirl.Context("mapping", "exp", 0, 0))
    norm = SupportNorm(SupportOptions(boundary=0.5))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    domain = Domain((-3.0,) * WIDTH, (3.0,) * WIDTH)
    return RewardModel(encoder, mapping, {"support": norm}, data, domain)


def audit(cls: Any, options: Any, model: RewardModel, seed: int = 0) -> Any:
    context = iirl.Context("audit", "a", seed, 1)
    return run_audit(AuditJob(cls(options), model, FLOOR, context))


@pytest.mark.parametrize(("cls", "options"), READERS)
class TestEveryReader:
    def test_what_it_reports_are_flaws(self, mixture: RewardModel, cls: Any, options: Any) -> None:
        result = audit(cls, options, mixture)
        assert result.status == "findings", result.reason
        (verified,) = verify([result], mixture, FLOOR, ())
        assert len(verified.new) == len(np.unique(result.states, axis=0)) > 0
        assert (np.abs(result.states) <= 3).all()

    def test_it_finds_more_places_than_space_filling_probes(
        self, mixture: RewardModel, cls: Any, options: Any
    ) -> None:
        found = audit(cls, options, mixture).states
        filling = audit(Sobol, SobolOptions(budget=3000), mixture).states
        assert places(found) > max(1, places(filling))

    def test_same_seed_same_states(self, mixture: RewardModel, cls: Any, options: Any) -> None:
        first, second = (audit(cls, options, mixture).states for _ in range(2))
        assert np.array_equal(first, second)

    @pytest.mark.parametrize("budget", [1, 2, 3, 19, 61, 400])
    def test_the_budget_is_kept_to_the_query(
        self, mixture: RewardModel, cls: Any, options: Any, budget: int
    ) -> None:
        import attrs

        result = audit(cls, attrs.evolve(options, budget=budget), mixture)
        assert result.status in ("clean", "findings"), result.reason
        assert result.queries <= budget


def places(states: Any) -> int:
    """Return how many of the states lie farther than 1 from all counted before."""
    kept: list[Any] = []
    for state in states:
        if all(np.linalg.norm(state - other) > 1 for other in kept):
            kept.append(state)
    return len(kept)


def test_passes_through_an_autoencoder_are_billed(mixture: RewardModel) -> None:
    target = Target(mixture, FLOOR, 100)
    experts = target.autoencoders()
    assert experts is not None
    states = torch.tensor(mixture.demonstrations.states[:11])
    code = experts.code(states, 0)
    assert target.queries == 6
    experts.decode(code, 0)
    assert target.queries == 12


def test_the_decoders_image_off_the_support_is_endorsed(mixture: RewardModel) -> None:
    result = audit(DecoderImage, DecoderImageOptions(budget=3000), mixture)
    (verified,) = verify([result], mixture, FLOOR, ())
    assert result.queries <= 3000
    assert len(verified.new) == len(result.states)
    if mixture.encoder.options.experts == 1:  # a gate of three leaves little endorsed
        assert len(verified.new) > 0


def test_codes_no_narrower_than_states_give_way_to_states(mixture: RewardModel) -> None:
    read = readable(Target(mixture, FLOOR, 100))
    assert read is not None
    assert read[1] == (4 if mixture.encoder.options.experts == 1 else WIDTH)


def curve() -> RewardModel:
    """An autoencoder of a curve in three features, with codes as wide as a state."""
    t = np.random.default_rng(0).uniform(-1, 1, (600, 1))
    data = check(np.sin(t * np.linspace(1, 3, 3) + np.arange(3)))
    encoder = MoeAutoencoder(MoeAutoencoderOptions(experts=1, bottleneck=2, steps=300))
    encoder.fit(data, iirl.Context("encoder", "moe", 0, 0))
    mapping = Exp(ExpOptions())
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, iirl.Context("mapping", "exp", 0, 0))
    norm = SupportNorm(SupportOptions(boundary=0.2))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    domain = Domain((-3.0,) * 3, (3.0,) * 3)
    return RewardModel(encoder, mapping, {"support": norm}, data, domain)


class TestInFewFeatures:
    def test_fixed_points_are_found_with_a_share_of_the_budget(self) -> None:
        model = curve()
        result = audit(FixedPoint, FixedPointOptions(budget=3000), model)
        (verified,) = verify([result], model, FLOOR, ())
        assert len(verified.new) == len(np.unique(result.states, axis=0)) > 0
        assert result.queries <= 1800

    @pytest.mark.parametrize(
        ("cls", "options"),
        [
            (Preimage, PreimageOptions(budget=3000)),
            (DecoderImage, DecoderImageOptions(budget=3000)),
        ],
    )
    def test_the_other_readers_leave_it_to_searches(self, cls: Any, options: Any) -> None:
        result = audit(cls, options, curve())
        assert result.status == "clean"
        assert result.queries <= 2
        (told,) = (o.summary for o in iirl_auditors() if o.target.endswith(f":{cls.__name__}"))
        assert "does nothing in up to 4 features" in told


def test_what_is_asked_about_first_lies_two_scales_apart(mixture: RewardModel) -> None:
    target = Target(mixture, FLOOR, 1000)
    read = readable(target)
    assert read is not None
    candidates = Candidates(target, read[0], np.random.default_rng(0))
    # On a line away from all experts: of each place one, then those in between.
    states = torch.full((40, WIDTH), 2.9, dtype=torch.float64)
    states[:, 0] = torch.linspace(-2.9, 2.9, 40, dtype=torch.float64)
    candidates.states, candidates.errors = states, torch.zeros(40, dtype=torch.float64)
    batches = []
    ask = target.reward
    target.reward = lambda asked: batches.append(asked) or ask(asked)  # type: ignore[method-assign]
    list(candidates.report())
    apart = torch.cdist(batches[0], batches[0]) + torch.eye(len(batches[0])) * 100
    assert len(batches[0]) >= 5
    assert (apart > 2 * target.scale).all()
    assert sum(map(len, batches)) > len(batches[0])


def test_the_limit_parts_what_is_endorsed_from_what_is_not() -> None:
    error = torch.tensor([1.0, 4.0, 16.0, 0.25], dtype=torch.float64)
    endorsed = torch.tensor([True, True, False, True])
    assert limit(error, endorsed) == pytest.approx(8.0)  # halfway in the logarithm
    assert limit(error, torch.ones(4, dtype=torch.bool)) == torch.inf
    assert limit(error, torch.zeros(4, dtype=torch.bool)) == 0.0
    # One that was endorsed for another reason does not move it.
    error = torch.tensor([1.0, 2.0, 8.0, 9.0, 10.0, 11.0], dtype=torch.float64)
    endorsed = torch.tensor([True, True, False, False, False, True])
    assert limit(error, endorsed) == pytest.approx(4.0)


def test_acceleration_reaches_a_fixed_point_that_repels() -> None:
    # x -> A x + b with eigenvalues 2 and -3: iteration leaves its fixed point (1, 2) for ever.
    matrix = torch.tensor([[2.0, 0.0], [1.0, -3.0]], dtype=torch.float64)
    fixed = torch.tensor([1.0, 2.0], dtype=torch.float64)
    x = torch.tensor([[0.5, 0.5], [4.0, -1.0]], dtype=torch.float64)
    points = misses = x.new_empty((2, 2, 0))
    for _ in range(6):
        miss = (x - fixed) @ matrix.T + fixed - x
        points = torch.cat([points, x[:, :, None]], 2)[:, :, -3:]
        misses = torch.cat([misses, miss[:, :, None]], 2)[:, :, -3:]
        x = x + accelerated(points, misses, torch.tensor(10.0, dtype=torch.float64))
    assert torch.allclose(x, fixed.expand(2, 2), atol=1e-3)


def test_flat_directions_move_the_state_and_not_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    by_state = torch.randn(5, 6, 3, dtype=torch.float64, generator=generator)
    by_error = torch.randn(5, 6, 3, dtype=torch.float64, generator=generator)
    by_error[:, :, 2] = by_error[:, :, 0]  # (1, 0, -1) changes no error
    steepness, directions = flat_directions(by_state, by_error)
    moved = torch.linalg.vector_norm(by_state @ directions, dim=1)
    changed = torch.linalg.vector_norm(by_error @ directions, dim=1)
    assert torch.allclose(moved, torch.ones_like(moved), atol=1e-4)
    assert torch.allclose(changed, steepness, atol=1e-4)
    assert (steepness[:, 0] < 1e-4).all()


def test_jacobians_are_those_of_autograd(mixture: RewardModel) -> None:
    target = Target(mixture, FLOOR, 10_000)
    experts = target.autoencoders()
    assert experts is not None
    candidates = Candidates(target, experts, np.random.default_rng(0))
    codes = experts.code(torch.tensor(mixture.demonstrations.states[:4]), 0)
    by_state, _, _ = jacobians(candidates, codes, 0)
    inner = mixture.encoder.autoencoders()
    for row in range(4):
        exact = torch.autograd.functional.jacobian(
            lambda z: inner.decode(z[None], 0)[0], codes[row]
        )
        assert torch.allclose(by_state[row], exact, atol=1e-5)


class TestCorrectionProbe:
    def spiked(self, mixture: RewardModel) -> tuple[RewardModel, Any]:
        centers = np.random.default_rng(1).uniform(-2.5, 2.5, (20, WIDTH))
        needles = Kernels(
            id="needles",
            refiner="someone",
            round=1,
            centers=centers,
            radii=np.full(20, 0.05),
            strengths=np.ones(20),
            effect="lift",
        )
        return mixture.evolve(corrections=(needles,)), centers

    def test_every_needle_of_the_list_is_found_with_one_query_each(
        self, mixture: RewardModel
    ) -> None:
        model, centers = self.spiked(mixture)
        result = audit(CorrectionProbe, CorrectionProbeOptions(budget=21), model)
        apart = np.linalg.norm(centers[:, None] - result.states, axis=2)
        assert (apart.min(axis=1) == 0).all()
        assert result.queries == 21

    def test_the_rims_of_cuts_are_asked_about(self) -> None:
        normal = np.array([[3.0, 4.0]])
        cut = Cut(id="c", refiner="r", round=1, normals=normal, offsets=[2.5], widths=[1.0])
        states = torch.randn(7, 2, dtype=torch.float64)
        probes = rims(cut, states)
        assert cut.depth(probes).view(3, 7).round(decimals=9).unique(dim=1).flatten().tolist() == [
            -0.5,
            -1.0,
            -1.5,
        ]
        along = states @ torch.tensor([-4.0, 3.0], dtype=torch.float64)
        assert torch.allclose(
            probes @ torch.tensor([-4.0, 3.0], dtype=torch.float64), along.repeat(3)
        )

    def test_a_flaw_at_the_rim_of_a_cut_is_found(self, mixture: RewardModel) -> None:
        first = np.eye(WIDTH)[:1]
        middle = float(np.median(mixture.demonstrations.states[:, 0]))
        cut = Cut(id="c", refiner="r", round=1, normals=first, offsets=[middle], widths=[0.1])
        half = LinearNorm(LinearOptions(a=tuple(first[0].tolist()), b=middle - 0.12))
        half.fit(mixture.demonstrations, iirl.Context("norm", "half", 0, 0))
        lenient = mixture.evolve(corrections=(cut,), norms={"half": half})
        result = audit(CorrectionProbe, CorrectionProbeOptions(budget=3000), lenient)
        assert result.status == "findings"
        beyond = cut.depth(torch.tensor(result.states))
        assert ((beyond + 0.5).abs() < 1e-9).any()

    def test_corrections_that_name_no_states_leave_the_audit_undecided(
        self, mixture: RewardModel
    ) -> None:
        width = mixture.view(torch.zeros(1, WIDTH).double()).features.shape[1] + 1
        kernel = Kernels(
            id="hidden",
            refiner="r",
            round=1,
            centers=np.full((1, width), 99.0),
            radii=[1.0],
            strengths=[1.0],
            space="code",
            scales=np.ones(width),
        )
        model = mixture.with_corrections([kernel])
        result = audit(CorrectionProbe, CorrectionProbeOptions(budget=50), model)
        assert result.status == "undecided"
        assert "hidden" in result.reason

    def test_no_search_finds_them(self, mixture: RewardModel) -> None:
        model, centers = self.spiked(mixture)
        states = audit(Sobol, SobolOptions(budget=3000), model).states
        assert not len(states) or np.linalg.norm(centers[:, None] - states, axis=2).min() > 0.05

    def test_seams_lie_between_neighbours_by_their_radii(self) -> None:
        centers = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 1.0]], dtype=torch.float64)
        radii = torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
        middles = seams(centers, radii)
        assert middles.tolist() == [[3.0, 0.0], [4.0, 0.5], [4.0, 0.5]]
        assert len(seams(centers[:1], radii[:1])) == 0
