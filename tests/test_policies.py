"""Recorded policies are read as they are written, and a bad file is named with its problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iirl_engine.errors import DataError, UsageError
from iirl_engine.evaluation import (
    read_policies,
)

HOSTILE = "<script>alert(1)</script>"


def save(folder: Path, name: str, **arrays: Any) -> None:
    np.savez(folder / f"{name}.npz", **arrays)


def test_files_are_read_under_either_name(tmp_path: Path) -> None:
    states = np.arange(10, dtype=np.float32).reshape(5, 2)
    rew = np.arange(5.0)
    save(tmp_path, "a", obs=states, rew=rew, ep_len=[2, 3], act=np.zeros(3))
    save(tmp_path, "b.1", states=states, reward=rew, episode=[7, 7, -1, -1, -1])
    (tmp_path / "summary.json").write_text("{}")
    a, b = read_policies(tmp_path)
    assert (a.name, b.name) == ("a", "b.1")
    for found in (a, b):
        assert found.states.dtype == np.float64
        assert found.episodes == 2
        assert found.returns is not None
        assert found.returns.tolist() == [1.0, 9.0]
        assert found.starts.tolist() == [[0, 1], [4, 5]]
        assert found.true_return == 5.0
        assert found.true_reward == 2.0


def test_recorded_returns_go_before_sums_and_need_no_episodes(tmp_path: Path) -> None:
    save(tmp_path, "p", states=np.zeros((4, 1)), rew=np.ones(4), ep_len=[4], ep_ret=[40.0])
    save(tmp_path, "q", states=np.zeros((4, 1)), ep_ret=[1.0, 2.0, 6.0])
    p, q = read_policies(tmp_path)
    assert p.true_return == 40.0
    assert (q.true_return, q.episodes) == (3.0, 3)
    assert len(q.starts) == 0


GOOD = {"states": np.zeros((4, 2))}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no-states": ({"rew": np.zeros(4)}, "needs its states"),
    "narrow": ({"states": np.zeros((4, 1))}, "as many features"),
    "nan": ({"states": np.full((4, 2), np.nan)}, "NaN or Inf in 4 of 4 rows"),
    "empty": ({"states": np.zeros((0, 2))}, "is empty"),
    "flat": ({"states": np.zeros(4)}, "two axes"),
    "text": ({"states": np.array([["a", "b"]])}, "integers or floats"),
    "short-reward": (GOOD | {"rew": np.zeros(3)}, "3 numbers, 4 states"),
    "inf-reward": (GOOD | {"reward": [0, np.inf, 0, 0]}, "reward holds NaN or Inf in 1 of 4"),
    "wide-reward": (GOOD | {"reward": np.zeros((4, 1))}, "one axis"),
    "sum": (GOOD | {"ep_len": [2, 3]}, "a sum of 5, 4 states"),
    "half": (GOOD | {"ep_len": [1.5, 2.5]}, "whole numbers"),
    "zero-length": (GOOD | {"ep_len": [4, 0]}, "whole numbers from 1"),
    "no-episode": (GOOD | {"ep_len": []}, "not be empty"),
    "returns": (GOOD | {"ep_len": [4], "ep_ret": [1, 2]}, "2 numbers, 1 episodes"),
    "apart": (GOOD | {"ep_len": [2, 2], "episode": [0, 0, 0, 1]}, "differently"),
    "label": (GOOD | {"label": [0, 1, 2, 0]}, "label must be 0"),
    "pickled": ({"states": np.array([object()])}, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_its_problem(case: str, tmp_path: Path) -> None:
    arrays, problem = BAD[case]
    save(tmp_path, case, **arrays)
    with pytest.raises(DataError, match=problem) as raised:
        read_policies(tmp_path, width=2)
    assert f"{case}.npz" in str(raised.value)
    assert raised.value.exit_code == 2


def test_all_bad_files_are_named_in_one_message(tmp_path: Path) -> None:
    save(tmp_path, "fine", **GOOD)
    for name, (arrays, _) in BAD.items():
        save(tmp_path, name, **arrays)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 not much of an archive")
    with pytest.raises(DataError) as raised:
        read_policies(tmp_path, width=2)
    told = str(raised.value)
    assert told.startswith(f"{len(BAD) + 1} files hold no policy")
    assert "fine.npz" not in told
    assert "torn.npz" in told
    for name, (_, problem) in BAD.items():
        assert f"{name}.npz" in told
        assert problem in " ".join(told.split())


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no policy"):
        read_policies(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        read_policies(tmp_path / "nowhere")
