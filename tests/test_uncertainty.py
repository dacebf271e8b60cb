"""What a reward says of its own reliability holds on states that nobody fitted anything on."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_engine.demonstrations import check
from iirl_engine.testing import run_chain
from iirl_engine.testing.worlds import Bowl, Spike
from iirl_engine.uncertainty import Coverage, Rank, Sample

CHAIN = """
[flywheel]
rounds = 2
held_out = 0.25
[source]
use = "npz"
path = "{path}"
[encoder]
use = "{encoder}"
[mapping]
use = "exp"
[[norm]]
use = "support"
[[audit]]
use = "sobol"
budget = 3000
[[refine]]
use = "envelope"
"""


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


@pytest.fixture(params=["knn", "moe-autoencoder"])
def reward(request: pytest.FixtureRequest, tmp_path: Path) -> iirl.RewardModel:
    np.savez(tmp_path / "demos.npz", states=drawn(1600, 0))
    run_chain(CHAIN.format(path="demos.npz", encoder=request.param), tmp_path)
    return iirl.load_release(tmp_path / "run/releases/0001")


def test_fresh_demonstrations_rank_evenly_among_those_held_out(reward: iirl.RewardModel) -> None:
    u = reward.uncertainty(torch.tensor(drawn(4000, 1))).numpy()
    for alpha in (0.05, 0.2, 0.5):
        # 400 were held out: the rank of one of them is known to about 0.025.
        assert (u > 1 - alpha).mean() == pytest.approx(alpha, abs=0.08)
    far = torch.tensor(drawn(500, 2)) + 30
    assert (reward.uncertainty(far) > 0.99).all()


def test_coverage_is_high_where_audits_looked_and_low_elsewhere(reward: iirl.RewardModel) -> None:
    low, high = np.array(reward.domain.low), np.array(reward.domain.high)
    inside = torch.tensor(low + (high - low) * np.random.default_rng(3).random((4000, 3)))
    covered = reward.coverage(inside).numpy()
    # Ranked about as evenly as the probes, which Sobol spreads more evenly than chance.
    assert 0.3 < covered.mean() < 0.55
    assert (reward.coverage(inside + 10 * torch.tensor(high - low)) < 0.01).all()


def test_without_an_audit_nothing_is_covered_and_nan_is_never_certain() -> None:
    model = Bowl().model
    states = torch.tensor([[0.0, 0.0], [torch.nan, 0.0]], dtype=torch.float64)
    assert model.coverage(states).tolist() == [0, 0]
    assert model.uncertainty(states)[1] == 1
    probed = model.evolve(probes=drawn(50, 4)[:, :2])
    assert probed.coverage(states)[1] == 0


def test_ranks_are_conformal_p_values() -> None:
    rank = Rank(torch.tensor([3.0, 1.0, 2.0, 2.0]))
    raw = torch.tensor([0.5, 1.0, 2.0, 2.5, 9.0, torch.nan])
    p = [(1 + sum(c >= r for c in (1, 2, 2, 3))) / 5 for r in (0.5, 1.0, 2.0, 2.5, 9.0)]
    assert rank(raw).tolist() == pytest.approx([1 - x for x in p] + [1.0])
    assert Rank(torch.empty(0))(torch.zeros(2)).tolist() == [1, 1]


def test_one_probe_covers_nothing() -> None:
    one = Coverage(np.zeros((1, 2)), np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    assert one(torch.zeros(1, 2, dtype=torch.float64)).tolist() == [0]


def test_a_sample_is_even_bounded_and_the_same_however_the_stream_is_cut() -> None:
    stream = torch.arange(10_000, dtype=torch.float64)[:, None]
    whole, parts = Sample(1), Sample(1)
    whole.add(stream)
    for part in torch.split(stream, 37):
        parts.add(part)
    assert np.array_equal(whole.rows(), parts.rows())
    assert 512 <= len(whole.rows()) <= 1024
    assert len(set(np.diff(whole.rows()[:, 0]))) == 1


def test_explanations_say_how_far_to_rely_on_the_reward() -> None:
    model = Spike().model.evolve(probes=drawn(100, 5)[:, :2])
    near, nowhere = model.explain(np.array([[0.0, 0.0], [np.nan, 0.0]]))
    told = near.to_json()
    assert 0 <= told["uncertainty"] < 1
    assert 0 < told["coverage"] <= 1
    assert (nowhere.uncertainty, nowhere.coverage) == (1, 0)
    assert told["strength"] == 1


def test_an_encoder_that_measures_its_own_uncertainty_is_asked() -> None:
    class Sure(type(Bowl().model.encoder)):  # type: ignore[misc]
        def uncertainty(self, states: torch.Tensor) -> torch.Tensor:
            return 1 + states[:, 0].abs()

    model = Bowl().model
    data = attrs.evolve(model.demonstrations, held_out=check(drawn(100, 6)[:, :2]).states)
    own = model.evolve(encoder=Sure(lambda s: s[:, 0]), demonstrations=data)
    states = torch.tensor([[0.0, 9.0], [9.0, 0.0]], dtype=torch.float64)
    assert (own.uncertainty(states) > 0.98).all()  # one is far from support, the other denied
    assert own.uncertainty(torch.zeros(1, 2, dtype=torch.float64)) < 0.1
