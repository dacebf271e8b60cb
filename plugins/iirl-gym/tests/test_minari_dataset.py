"""Source `minari`: datasets that Minari itself wrote, read without a network."""

from __future__ import annotations

import json
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.spaces import Dict as DictSpace
from minari.data_collector.episode_buffer import EpisodeBuffer

from iirl_engine.api import Context
from iirl_engine.errors import DataError, UsageError
from iirl_engine.records import Demonstrations
from iirl_engine.testing import checks
from iirl_gym.minari_dataset import Minari
from iirl_gym.options import MinariOptions

LENGTHS = (4, 1, 6)


def load(dataset: str | Path, **options: Any) -> Demonstrations:
    source = Minari(MinariOptions(dataset=str(dataset), **options))
    return source.load(Context("source", "minari", 0, 0))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's folder of datasets, empty; whoever opens a connection fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "datasets"


@pytest.fixture
def episodes() -> list[np.ndarray]:
    """The observations of Pendulum-v1: one more than there are steps."""
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    found = []
    for seed, length in enumerate(LENGTHS):
        states = [env.reset(seed=seed)[0]]
        states += [env.step(env.action_space.sample())[0] for _ in range(length)]
        found.append(np.array(states))
    return found


def write(name: str, observations: list[Any], space: Space[Any]) -> None:
    buffers = []
    for number, seen in enumerate(observations):
        steps = LENGTHS[number]
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=seen,
                actions=np.zeros((steps, 1), dtype=np.float32),
                rewards=[0.0] * steps,
                terminations=[False] * steps,
                truncations=[False] * (steps - 1) + [True],
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like an author, a description, ...
        minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=space,
            action_space=Box(-2, 2, (1,), np.float32),
        )


@pytest.fixture
def plain(episodes: list[np.ndarray]) -> list[np.ndarray]:
    write("pendulum/random-v0", episodes, Box(-8, 8, (3,), np.float32))
    return episodes


@pytest.fixture
def named(episodes: list[np.ndarray]) -> list[np.ndarray]:
    parts = {"state": Box(-8, 8, (3,), np.float32), "goal": Discrete(2)}
    seen = [{"state": e, "goal": np.zeros(len(e), dtype=np.int64)} for e in episodes]
    write("named-v0", seen, DictSpace(parts))
    return episodes


@pytest.mark.parametrize("inside", ["", "data"])
def test_an_id_and_a_path_give_every_observation_of_every_episode(
    plain: list[np.ndarray], root: Path, inside: str
) -> None:
    by_id = load("pendulum/random-v0")
    assert (by_id.states == np.concatenate(plain)).all()
    assert by_id.episode is not None
    assert by_id.t is not None
    assert by_id.episode.tolist() == [0] * 5 + [1] * 2 + [2] * 7
    assert by_id.t.tolist() == [*range(5), *range(2), *range(7)]
    assert "pendulum/random-v0" in by_id.origin
    by_path = load(root / "pendulum/random-v0" / inside)
    assert by_path.fingerprint == by_id.fingerprint


@pytest.mark.parametrize("limit", [1, 5, 6, 14, 100])
def test_states_limits_how_many(plain: list[np.ndarray], limit: int) -> None:
    demonstrations = load("pendulum/random-v0", states=limit)
    assert (demonstrations.states == np.concatenate(plain)[:limit]).all()
    assert demonstrations.t is not None
    assert len(demonstrations.t) == min(limit, 14)


def test_the_state_is_picked_out_of_named_parts(named: list[np.ndarray]) -> None:
    assert (load("named-v0", observation="state").states == np.concatenate(named)).all()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "the observation is no array"),
        ("goal", "the observation is no array"),
        ("position", "no part 'position'"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_with_the_parts_there_are(
    named: list[np.ndarray], key: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        load("named-v0", observation=key)
    assert "known: state, goal" in str(refused.value) or "goal, state" in str(refused.value)


def test_a_whole_array_has_no_parts(plain: list[np.ndarray]) -> None:
    with pytest.raises(DataError, match="no part 'state'"):
        load("pendulum/random-v0", observation="state")


def test_observations_of_more_axes_are_flattened(episodes: list[np.ndarray]) -> None:
    square = [np.stack([e, -e], axis=1) for e in episodes]
    write("square-v0", square, Box(-8, 8, (2, 3), np.float32))
    states = np.concatenate(episodes)
    assert (load("square-v0").states == np.concatenate([states, -states], axis=1)).all()


def test_what_is_missing_is_said_and_not_downloaded(root: Path) -> None:
    with pytest.raises(DataError, match="no such Minari dataset on this machine") as missing:
        load("mujoco/halfcheetah/expert-v0")
    said = " ".join(str(missing.value).split())
    assert str(root / "mujoco/halfcheetah/expert-v0" / "data") in said
    assert "minari download mujoco/halfcheetah/expert-v0" in said


def test_a_damaged_dataset_is_a_data_error(plain: list[np.ndarray], root: Path) -> None:
    file = root / "pendulum/random-v0/data/main_data.hdf5"
    with h5py.File(file, "a") as opened:
        del opened["episode_1"]["observations"]
    with pytest.raises(DataError, match="Minari cannot read"):
        load("pendulum/random-v0")
    assert len(load("pendulum/random-v0", states=5).states) == 5
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="Minari cannot read"):
        load("pendulum/random-v0")


def test_no_environment_is_made_to_learn_its_spaces(plain: list[np.ndarray], root: Path) -> None:
    file = root / "pendulum/random-v0/data/metadata.json"
    metadata = json.loads(file.read_text())
    del metadata["observation_space"]
    metadata["env_spec"] = gymnasium.spec("Pendulum-v1").to_json()
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match="Minari cannot read") as refused:
        load("pendulum/random-v0")
    assert "does not record its observation" in str(refused.value)


def test_nan_is_refused(episodes: list[np.ndarray]) -> None:
    episodes[1][1, 1] = np.nan
    write("broken-v0", episodes, Box(-8, 8, (3,), np.float32))
    with pytest.raises(DataError, match="NaN"):
        load("broken-v0")


def test_without_minari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.setitem(sys.modules, "minari.storage.datasets_root_dir", None)
    with pytest.raises(UsageError, match="needs the package minari") as missing:
        load("pendulum/random-v0")
    assert "iirl-gym[minari]" in str(missing.value)


def test_the_source_conforms(plain: list[np.ndarray], root: Path) -> None:
    example = {"minari": {"dataset": str(root / "pendulum/random-v0")}}
    run = 0
    for check in checks("iirl-gym", examples=example):
        if check.about == "source minari":
            check()
            run += 1
    assert run >= 4
