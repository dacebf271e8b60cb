"""Schedules: what is audited is the reward at full strength, and eq. 2 weighs by β."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_engine.builtin.options import (
    ConstantOptions,
    ExponentialOptions,
    LinearDecayOptions,
    RegionOptions,
)
from iirl_engine.builtin.schedules import Constant, Exponential, Linear, Region
from iirl_engine.errors import ChainError, DataError, PluginError
from iirl_engine.learn import learn, load_demonstrations
from iirl_engine.testing.worlds import Bowl

CHAIN = """
[flywheel]
rounds = 1
[source]
use = "npz"
path = "demos.npz"
[encoder]
use = "knn"
[mapping]
use = "exp"
[schedule]
{schedule}
[[norm]]
use = "box"
features = ["x0"]
low = [-1.0]
high = [1.0]
[[audit]]
use = "sobol"
budget = 500
"""


def chain(folder: Path, schedule: str) -> iirl.Flywheel:
    rng = np.random.default_rng(0)
    states = rng.uniform(-0.9, 0.9, size=(200, 2))
    np.savez(
        folder / "demos.npz",
        states=states,
        t=np.tile(np.arange(100), 2),
        episode=np.repeat([0, 1], 100),
        negatives=rng.normal(size=(30, 2)),
        negative_weights=np.arange(30),
    )
    (folder / "chain.toml").write_text(CHAIN.format(schedule=schedule))
    return iirl.Flywheel.from_file(folder / "chain.toml", out=folder / "run")


def test_strengths_follow_their_formulas() -> None:
    states = torch.zeros(4, 2, dtype=torch.float64)
    t = torch.tensor([0.0, 10.0, 20.0, 1e9], dtype=torch.float64)
    half = Exponential(ExponentialOptions(half_life=10.0, end=0.2))
    assert half.strength(states, t, {}).tolist() == pytest.approx([1, 0.6, 0.4, 0.2])
    line = Linear(LinearDecayOptions(duration=20.0, start=0.9, end=0.1))
    assert line.strength(states, t, {}).tolist() == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert Constant(ConstantOptions(strength=0.3)).strength(states, t, {}).tolist() == [0.3] * 4
    region = Region(RegionOptions(norm="box", inside=0.8, outside=0.1))
    violation = torch.tensor([-1.0, 0.0, 1e-9, 5.0], dtype=torch.float64)
    assert region.strength(states, t, {"box": violation}).tolist() == [0.8, 0.8, 0.1, 0.1]


def test_a_reward_is_scheduled_when_it_is_told_the_time() -> None:
    decay = Exponential(ExponentialOptions(half_life=1.0))
    model = Bowl().model.evolve(schedule=decay)
    states = np.array([[0.0, 0.0], [0.1, 0.0], [np.nan, 0.0]])
    full = model(states)
    assert np.allclose(model(states, t=[0, 1, 2]), full * [1, 0.5, 0.25])
    assert np.allclose(model(states, t=3), full / 8)
    assert np.array_equal(model(states, t=0), full)
    wide = torch.tensor(states, requires_grad=True)
    model(wide, t=torch.tensor([1.0, 1.0, 1.0])).sum().backward()
    assert torch.isfinite(wide.grad).all()


@pytest.mark.parametrize("t", [[1, 2], -1, np.nan, "soon", [[1], [2]]])
def test_times_that_fit_no_state_are_refused(t: object) -> None:
    with pytest.raises(DataError, match="time"):
        Bowl().model(np.zeros((3, 2)), t=t)


def test_a_schedule_goes_with_the_release(tmp_path: Path) -> None:
    chain(tmp_path, 'use = "region"\nnorm = "box"\noutside = 0.25').run()
    reward = iirl.load_release(tmp_path / "run/releases/0000")
    states = np.array([[0.99, 0.0], [1.01, 0.0]])
    assert np.allclose(reward(states, t=5), reward(states) * [1, 0.25])


def test_a_schedule_hides_no_flaw(tmp_path: Path) -> None:
    with_it = chain(tmp_path, 'use = "constant"\nstrength = 0.001').run()
    assert with_it.rounds[0].confirmed > 0


def test_a_region_needs_a_norm_of_the_chain(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match=r"no norm has the id 'hull'\s+known: box"):
        chain(tmp_path, 'use = "region"\nnorm = "hull"').run()


def test_demonstrations_are_weighed_by_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flywheel = chain(tmp_path, 'use = "exponential"\nhalf_life = 10')
    encoder = type(flywheel.chain.encoder.build())
    fit, seen = encoder.fit, []

    def seeing(self: object, data: iirl.Demonstrations, context: iirl.Context) -> None:
        seen.append(data)
        fit(self, data, context)

    monkeypatch.setattr(encoder, "fit", seeing)
    learn(flywheel.chain, load_demonstrations(flywheel.chain))
    (data,) = seen
    assert np.allclose(data.weights, 2 ** (-np.tile(np.arange(100), 2) / 10))
    assert data.negative_weights.tolist() == list(range(30))  # as the source has it


def test_a_schedule_that_leaves_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="weight 0"):
        chain(tmp_path, 'use = "constant"\nstrength = 0').run()


def test_the_default_is_full_strength(tmp_path: Path) -> None:
    flywheel = chain(tmp_path, 'use = "constant"')
    flywheel.chain.path.write_text(CHAIN.replace("[schedule]\n{schedule}\n", ""))
    outcome = iirl.Flywheel.from_file(flywheel.chain.path, out=tmp_path / "run").run()
    reward = iirl.load_release(outcome.release)
    states = reward.demonstrations.states
    assert np.array_equal(reward(states, t=1e6), reward(states))
