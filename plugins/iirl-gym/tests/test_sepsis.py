"""The ICU-Sepsis world: exact values, patients, demonstrations and policies."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from iirl_engine.api import Context
from iirl_engine.errors import DataError, UsageError
from iirl_engine.records import Demonstrations
from iirl_gym import write_policies
from iirl_gym.options import IcuSepsisOptions
from iirl_gym.sepsis import SepsisWorld, read_world
from iirl_gym.sepsis_policies import command
from iirl_gym.sepsis_source import IcuSepsis


@pytest.fixture(scope="module")
def world() -> SepsisWorld:
    return read_world()


def load(seed: int = 0, **options: object) -> Demonstrations:
    return IcuSepsis(IcuSepsisOptions(**options)).load(Context("source", "icu-sepsis", seed, 0))


@pytest.mark.parametrize(
    ("name", "survival", "length"),
    [("clinicians", 0.78, 9.22), ("random", 0.78, 9.45), ("optimal", 0.88, 10.99)],
)
def test_survival_and_length_are_those_that_the_package_publishes(
    world: SepsisWorld, name: str, survival: float, length: float
) -> None:
    policies = {
        "clinicians": world.clinicians,
        "random": world.random(),
        "optimal": world.optimal(),
    }
    policy = policies[name]
    assert world.start @ world.survival(policy) == pytest.approx(survival, abs=0.005)
    stays = world.treat(policy, 10_000, np.random.default_rng(0))
    # Three standard errors of 10,000 patients.
    assert stays.survived.mean() == pytest.approx(world.start @ world.survival(policy), abs=0.013)
    assert stays.lengths.mean() == pytest.approx(length, abs=0.3)


def test_the_value_of_a_state_is_the_share_of_patients_that_survive_from_there(
    world: SepsisWorld,
) -> None:
    value = world.survival(world.clinicians)
    assert ((value >= 0) & (value <= 1)).all()
    for state in (value.argmin(), value.argmax(), 0):
        start = np.eye(len(value))[state]
        here = SepsisWorld(world.transitions, start, world.clinicians, world.centres)
        stays = here.treat(world.clinicians, 2000, np.random.default_rng(1))
        assert (stays.state[np.cumsum(stays.lengths)[:-1]] == state).all()
        assert stays.survived.mean() == pytest.approx(value[state], abs=0.035)


def test_no_policy_does_better_than_the_optimal_one_in_any_state(world: SepsisWorld) -> None:
    best = world.survival(world.optimal())
    generator = np.random.default_rng(0)
    for _ in range(5):
        policy = generator.dirichlet(np.full(25, 0.1), size=713)
        assert (world.survival(policy) <= best + 1e-9).all()
    assert (world.survival(world.clinicians) <= best + 1e-9).all()


def test_every_step_of_a_stay_is_possible(world: SepsisWorld) -> None:
    stays = world.treat(world.clinicians, 300, np.random.default_rng(2))
    chain = world.chain(world.clinicians)
    starts = np.cumsum(stays.lengths) - stays.lengths
    assert (world.start[stays.state[starts]] > 0).all()
    follows = np.ones(len(stays.state), dtype=bool)
    follows[starts] = False
    rows = np.flatnonzero(follows)
    assert (chain[stays.state[rows - 1], stays.state[rows]] > 0).all()
    assert stays.lengths.sum() == len(stays.state)
    assert stays.lengths.min() >= 1


def test_demonstrations_are_the_states_of_patients(world: SepsisWorld) -> None:
    demonstrations = load(patients=50)
    assert demonstrations.states.shape[1] == 47
    assert len(demonstrations.negatives) == 0
    assert demonstrations.episode is not None
    assert demonstrations.t is not None
    starts = np.flatnonzero(demonstrations.t == 0)
    assert demonstrations.episode[starts].tolist() == list(range(50))
    known = {row.tobytes() for row in world.centres}
    assert {row.tobytes() for row in demonstrations.states} <= known


def test_with_negatives_who_survived_is_expert_and_who_died_is_not() -> None:
    everybody, divided = load(patients=200), load(patients=200, negatives=True)
    assert everybody.episode is not None
    assert divided.episode is not None
    survivors = np.isin(everybody.episode, divided.episode)
    assert (everybody.states[survivors] == divided.states).all()
    assert (everybody.states[~survivors] == divided.negatives).all()
    assert 0.68 < len(np.unique(divided.episode)) / 200 < 0.88
    assert len(divided.negatives) > 200


def test_seeds() -> None:
    first, again, other = (load(seed, patients=20) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_without_a_survivor_there_is_no_expert() -> None:
    seeds = (s for s in range(200) if not survives(s))
    with pytest.raises(DataError, match="no patient survived"):
        load(next(seeds), patients=1, negatives=True)


def survives(seed: int) -> bool:
    world = read_world()
    generator = Context("source", "icu-sepsis", seed, 0).generator()
    return bool(world.treat(world.clinicians, 1, generator).survived[0])


def test_policies_are_written_with_exact_values(world: SepsisWorld, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "policies"
    files = write_policies(folder, patients=100)
    assert sorted(file.name for file in files) == ["expert.npz", "optimal.npz", "random.npz"]
    assert sorted(folder.iterdir()) == sorted(files)
    values = {
        row.tobytes(): value
        for row, value in zip(world.centres, world.survival(world.clinicians), strict=False)
    }
    for file in files:
        with np.load(file, allow_pickle=False) as written:
            assert written["obs"].shape == (written["ep_len"].sum(), 47)
            assert len(written["ep_ret"]) == len(written["ep_len"]) == 100
            assert set(written["ep_ret"]) == {0.0, 1.0}
            expected = [values[row.tobytes()] for row in written["obs"]]
            assert written["value"] == pytest.approx(expected)


def test_the_command_writes_the_same_files_for_a_seed(tmp_path: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        asked = [str(tmp_path / name), "--patients", "20", "--seed", seed]
        done = CliRunner().invoke(command, asked, catch_exceptions=False)
        assert done.exit_code == 0
        assert done.output.split() == [
            str(tmp_path / name / f"{policy}.npz") for policy in ("expert", "random", "optimal")
        ]
    first, again, other = ((tmp_path / n / "expert.npz").read_bytes() for n in "abc")
    assert first == again
    assert first != other


def test_the_legacy_package_gym_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from iirl_gym import write_policies; from pathlib import Path\n"
        f"write_policies(Path({str(tmp_path)!r}), patients=2)\n"
        "print({'gym', 'icu_sepsis'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
    assert run.stderr == ""


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="icu-sepsis") as missing:
        read_world()
    assert "iirl-gym[icu-sepsis]" in str(missing.value)
