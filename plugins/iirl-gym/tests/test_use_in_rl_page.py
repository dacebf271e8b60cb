"""The page "Use in reinforcement learning": its code runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import iirl_engine as iirl

PAGE = Path(__file__).parents[3] / "docs" / "use-in-rl.md"


def test_the_code_of_the_page_runs(
    reward_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(reward_run, tmp_path / "runs" / "pendulum")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        # Enough steps to learn something take minutes.
        exec(compile(block.replace("100_000", "2"), PAGE.name, "exec"), names)
    assert isinstance(names["reward"], iirl.RewardModel)
    assert names["rewards"].shape == (5,)
    assert names["passing"].shape == (64,)
    assert names["chosen"] is None or names["passing"][names["chosen"]]
