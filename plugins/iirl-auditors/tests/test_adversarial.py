"""The parts of the adversarial searches, each against what it is known to be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import iirl_engine as iirl
from iirl_auditors.adversarial.archive import cell_of
from iirl_auditors.adversarial.lbfgs import quasi_newton
from iirl_auditors.adversarial.objective import Margins, slope, soft
from iirl_auditors.adversarial.options import PgdOptions
from iirl_auditors.adversarial.pgd import Pgd, direction
from iirl_auditors.adversarial.starts import KINDS, Starts
from iirl_auditors.spread import spread, thinned
from iirl_engine.api import Code, Encoder, Mapping
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.demonstrations import check
from iirl_engine.options import NoOptions
from iirl_engine.records import Demonstrations, Domain
from iirl_engine.reward import RewardModel
from iirl_engine.target import Target

# The experts are around the first, the second is a flaw.
PEAKS = torch.tensor([[0.0, 0.0, 0.0], [0.7, -0.6, 0.5]], dtype=torch.float64)


class Peaks(Encoder[NoOptions]):
    """Loss |s - c|^2 / 2 w^2 to the nearest of two peaks, w = 0.01."""

    def fit(self, demonstrations: Demonstrations, context: iirl.Context) -> None: ...

    def encode(self, states: Tensor) -> Code:
        apart = (states[:, None] - PEAKS).square().sum(dim=2)
        return Code(states, apart.amin(dim=1) / (2 * 0.01**2))

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Any, demonstrations: Demonstrations) -> None: ...


class Exp(Mapping[NoOptions]):
    """g(L) = exp(-L)."""

    def fit(self, loss: Tensor, context: iirl.Context) -> None: ...

    def map(self, loss: Tensor) -> Tensor:
        return torch.exp(-loss)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Any) -> None: ...


def peaks() -> RewardModel:
    """A reward that is exactly 0 nearly everywhere, with a flaw far from the experts."""
    data = check(0.005 * np.random.default_rng(0).normal(size=(30, 3)))
    norm = SupportNorm(SupportOptions(boundary=0.1))
    norm.fit(data, iirl.Context("norm", "support", 0, 0))
    domain = Domain((-1.0,) * 3, (1.0,) * 3)
    return RewardModel(Peaks(NoOptions()), Exp(NoOptions()), {"support": norm}, data, domain)


def target(budget: int = 1000) -> Target:
    return Target(peaks(), 0.01, budget)


def test_the_slope_is_the_derivative_of_the_soft_margin() -> None:
    margin = torch.tensor([-50.0, -3.0, -0.1, 0.1, 3.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft(margin).sum(), margin)
    assert torch.allclose(slope(margin.detach()), gradient, rtol=1e-12)
    assert (gradient > 0).all()


def test_the_objective_has_the_gradient_that_differences_tell() -> None:
    asked = target()
    margins = Margins(asked)
    states = torch.rand(20, len(asked.low), dtype=torch.float64) * 1.4 - 0.7
    here = margins(states)
    for axis in range(states.shape[1]):
        step = torch.zeros_like(states)
        step[:, axis] = 1e-6
        ahead, behind = margins.value(states + step)[0], margins.value(states - step)[0]
        difference = (ahead - behind) / 2e-6
        smooth = (difference - here.gradient[:, axis]).abs() <= 1e-4 * (1 + difference.abs())
        assert smooth.sum() >= 16  # kinks of the nearest expert state may lie between


def test_steps_have_the_length_of_their_norm() -> None:
    uphill = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-200, 0.0]], dtype=torch.float64)
    zero, one = torch.zeros_like(uphill), torch.ones(3, dtype=torch.int64)
    linf, _, _ = direction(uphill, zero, zero, one, "linf")
    assert linf.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    l2, _, _ = direction(uphill, zero, zero, one, "l2")
    assert l2[0].tolist() == pytest.approx([0.6, 0.8])
    adam, mean, square = direction(uphill[:1], zero[:1], zero[:1], one[:1], "adam")
    assert adam[0].tolist() == pytest.approx([1.0, 1.0])
    assert mean[0].tolist() == pytest.approx([0.3, 0.4])
    assert square[0].tolist() == pytest.approx([0.009, 0.016])


def test_a_quasi_newton_step_reaches_the_top_of_a_paraboloid() -> None:
    # f = -(x - top)^T H (x - top) / 2 in two dimensions: two steps tell all of the curvature.
    hessian = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    top = torch.tensor([1.0, -2.0], dtype=torch.float64)
    moved = torch.eye(2, dtype=torch.float64)[None]
    # Conjugate directions, so that the pairs determine the inverse.
    moved = torch.stack([moved[0, 0], moved[0, 1] - 0.25 * moved[0, 0]])[None]
    turned = moved @ hessian
    here = torch.zeros(1, 2, dtype=torch.float64)
    gradient = (top - here) @ hessian
    assert torch.allclose(here + quasi_newton(gradient, moved, turned), top[None], atol=1e-12)


def test_pairs_without_curvature_do_not_count() -> None:
    gradient = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    moved = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    assert torch.equal(quasi_newton(gradient, moved, -moved), gradient)


def test_log_reward_goes_on_where_the_reward_is_nothing() -> None:
    model = peaks()
    far = torch.tensor([[-0.9, 0.9, -0.9]], dtype=torch.float64)
    value, _ = model.log_reward_and_gradient(far)
    assert float(model.reward(far)) == 0
    assert value.item() == pytest.approx(-float(model.encoder.encode(far).loss), rel=1e-6)
    assert value.item() < math.log(1e-250)
    near = torch.tensor(model.demonstrations.states[:3])
    value, gradient = model.log_reward_and_gradient(near)
    reward, by_state = model.reward_and_gradient(near)
    assert torch.allclose(value, reward.log())
    assert torch.allclose(gradient, by_state / reward[:, None])
    both = torch.cat([far, near, torch.full_like(far, torch.nan)])
    value, _ = model.log_reward_and_gradient(both)
    assert torch.allclose(model.log_reward(both), value, rtol=1e-12)
    assert float(value[-1]) == math.log(1e-250)


def test_a_value_alone_asks_for_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = peaks()
    near = torch.tensor(model.demonstrations.states[:3])
    value, _ = model.log_reward_and_gradient(near)
    monkeypatch.setattr(type(model.encoder), "loss_and_gradient", None)
    asked = Target(model, 0.01, 3)
    assert torch.allclose(asked.log_reward(near), value)
    assert asked.queries == 3


def test_a_kind_of_start_that_leads_to_new_places_is_drawn_more() -> None:
    generator = torch.Generator().manual_seed(0)
    asked = target()
    starts = Starts(asked, generator)
    for turn in range(20):
        states, kind = starts.draw(16)
        assert ((states >= asked.low) & (states <= asked.high)).all()
        led = kind == KINDS.index("uniform")
        places = torch.full((int(led.sum()), len(asked.low)), 10.0 * turn, dtype=torch.float64)
        starts.found(places, kind[led])
    _, kind = starts.draw(3000)
    shares = torch.bincount(kind, minlength=3) / 3000
    assert shares[KINDS.index("uniform")] > 0.5
    assert (shares > 0.05).all()


def test_cells_tell_distances_and_directions_apart() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    away = torch.tensor([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    violation = torch.tensor([0.5, 0.5, 40.0], dtype=torch.float64)
    cells = cell_of(away, violation, directions, 8)
    assert len(set(cells.tolist())) == 3
    assert cells[0] % 2 == 0
    assert cells[1] % 2 == 1


def test_spread_states_lie_apart_and_none_could_be_added() -> None:
    states = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = spread(states, 0.2, np.random.default_rng(0))
    apart = torch.cdist(states[rows], states[rows]).fill_diagonal_(torch.inf)
    assert apart.min() > 0.2
    assert (torch.cdist(states, states[rows]).amin(dim=1) <= 0.2).all()
    in_order = 0
    kept = states[:0]
    for state in states:
        if (torch.cdist(state[None], kept) > 0.2).all():
            kept = torch.cat([kept, state[None]])
            in_order += 1
    assert len(rows) >= in_order
    few = thinned(states, 0.1)
    assert torch.cdist(states[few], states[few]).fill_diagonal_(torch.inf).min() > 0.1


def test_many_states_are_thinned_before_they_are_spread() -> None:
    states = torch.rand(6000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = spread(states, 0.2, np.random.default_rng(0), tries=1)
    apart = torch.cdist(states[rows], states[rows]).fill_diagonal_(torch.inf)
    assert apart.min() > 0.2
    assert len(rows) >= 18


def test_a_search_finds_what_is_far_where_the_reward_underflows() -> None:
    model = peaks()
    uniform = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    assert (model(uniform) == 0).mean() > 0.8
    context = iirl.Context("audit", "pgd", 0, 1)
    result = run_audit(AuditJob(Pgd(PgdOptions(budget=8000)), model, 0.01, context))
    (verified,) = verify([result], model, 0.01, ())
    assert len(verified.new) > 0


def test_a_search_that_lingers_goes_on_from_its_flaw() -> None:
    context = iirl.Context("audit", "pgd", 0, 1)

    def found(linger: int) -> Any:
        options = PgdOptions(budget=8000, linger=linger)
        return run_audit(AuditJob(Pgd(options), peaks(), 0.01, context)).states

    stops, lingers = found(0), found(8)
    assert len(lingers) > len(stops) > 0
    # Both begin alike, and what comes after a flaw is near it.
    assert np.array_equal(lingers[0], stops[0])
    assert np.linalg.norm(lingers - PEAKS[1].numpy(), axis=1).max() < 0.1


def test_starts_around_fill_a_ball_in_units_of_the_domain() -> None:
    asked = target()
    portfolio = Starts(asked, torch.Generator().manual_seed(0))
    states, kind = portfolio.draw(4000)
    away = torch.linalg.vector_norm(states[kind == KINDS.index("around")], dim=1)
    radius = 0.3 * 2.0
    assert away.max() <= radius + 0.05
    # Half of a ball's volume lies beyond 0.79 of its radius.
    assert (away > 0.5 ** (1 / 3) * radius).double().mean() == pytest.approx(0.5, abs=0.06)
