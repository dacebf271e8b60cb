"""`iirl corrections`: what it lists, foretells and writes, on a real run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iirl_engine as iirl
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import CARD, MANIFEST, TENSORS
from iirl_engine.testing import run_chain
from tests.commands import Iirl
from tests.figure1_world import autoencoders

CHAIN = f"""
report = []
[flywheel]
rounds = 2
{autoencoders(300)}[[audit]]
use = "sobol"
budget = 3000
[[refine]]
use = "kernel-greedy"
[[gate]]
use = "known-good"
max_loss = 0.9
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_chain(CHAIN, tmp_path_factory.mktemp("run")).run
    assert len(corrections_of(run)) > 1
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def corrections_of(run: Path) -> list[str]:
    return [c.id for c in iirl.load_release(newest(run)).corrections]


def newest(run: Path) -> Path:
    return max((run / "releases").iterdir())


@pytest.fixture
def call(iirl: Iirl) -> Any:
    def called(*arguments: object) -> tuple[int, str]:
        done = iirl("corrections", *arguments)
        return int(done.code or 0), done.out + done.err

    return called


def test_list_tells_each_with_where_it_comes_from(run: Path, call: Any) -> None:
    code, text = call("list", run)
    head, *rows = text.splitlines()
    assert code == 0
    assert head.split() == ["id", "kind", "refiner", "approved", "count", "round", "closes"]
    assert [row.split()[0] for row in rows] == corrections_of(run)
    assert all(row.split()[3] == "auto" for row in rows)
    assert max(map(len, text.splitlines())) <= 80
    body = json.loads(call("list", run, "--json")[1])
    manifest = json.loads((newest(run) / MANIFEST).read_bytes())
    assert body["corrections"] == manifest["corrections"]
    assert all(entry["closes"] >= 0 for entry in body["corrections"])
    assert call("list", run / "releases" / "0000")[1].endswith("it is the reward as learned\n")


def test_show_tells_what_it_closed(run: Path, call: Any) -> None:
    name = corrections_of(run)[0]
    body = json.loads(call("show", run, name, "--json")[1])
    knowledge = Knowledge(run)
    assert body["closed"] == list(knowledge.closed_by(name)) != []
    knowledge.close()
    assert body["arrays"]["centers"]["shape"] == [body["correction"]["count"], 3]
    text = call("show", run, name)[1]
    assert "profile: gaussian" in text
    assert max(map(len, text.splitlines())) <= 80
    assert call("show", run, "nobody")[0] == 2


def test_what_preview_foretells_comes_true(run: Path, call: Any, tmp_path: Path) -> None:
    *others, last = corrections_of(run)
    states = np.random.default_rng(0).uniform(-1, 1, (300, 3))
    np.save(tmp_path / "states.npy", states)
    told = json.loads(call("preview", run, last, "--states", tmp_path / "states.npy", "--json")[1])
    before = iirl.load_release(newest(run))
    assert call("remove", run, last, "--reopen")[0] == 0
    after = iirl.load_release(newest(run))
    assert corrections_of(run) == others
    knowledge = Knowledge(run)
    flaws = knowledge.flaws(3)
    opens = (before(flaws.states) <= 0.01) & (after(flaws.states) > 0.01)
    assert told["reopened"] == [flaws.ids[i] for i in np.flatnonzero(opens)] != []
    assert told["known"] == len(flaws)
    assert set(told["reopened"]).isdisjoint(knowledge.closed_by(last))
    assert max(knowledge.releases()) == int(newest(run).name)
    knowledge.close()
    moved = after(states) - before(states)
    assert told["asked"]["mean"] == pytest.approx(moved.mean())
    assert told["asked"]["most"] == pytest.approx(np.abs(moved).max())
    assert len(call("list", run)[1].splitlines()) == len(others) + 1


def test_what_would_reopen_flaws_is_refused(run: Path, call: Any) -> None:
    before = sorted(run.rglob("*"))
    code, text = call("remove", run, corrections_of(run)[0])
    assert code == 1
    assert "would open again" in text
    assert "nothing was written" in text
    assert [path for path in sorted(run.rglob("*")) if "sqlite" not in path.name] == [
        path for path in before if "sqlite" not in path.name
    ]


def test_without_any_it_is_release_0_byte_for_byte(run: Path, call: Any, tmp_path: Path) -> None:
    zero, states = run / "releases" / "0000", np.random.default_rng(1).uniform(-1, 1, (500, 3))
    code, text = call("remove", run, "--all", "--reopen", "--out", tmp_path / "back")
    assert code == 0, text
    for name in (TENSORS, MANIFEST, CARD):
        assert (tmp_path / "back" / name).read_bytes() == (zero / name).read_bytes()
        assert name in text
    assert len(list((tmp_path / "back").iterdir())) == 3
    learned, back = iirl.load_release(zero), iirl.load_release(tmp_path / "back")
    assert np.array_equal(learned(states), back(states))
    code, text = call("remove", run, "--all", "--reopen")
    assert (newest(run) / TENSORS).read_bytes() == (zero / TENSORS).read_bytes()
    assert "differ by the number" in text
    assert (newest(run) / MANIFEST).read_bytes() != (zero / MANIFEST).read_bytes()


def test_what_cannot_be_done_is_said(run: Path, call: Any, tmp_path: Path) -> None:
    older = run / "releases" / "0001"
    name = corrections_of(run)[0]
    assert "--out" in call("remove", older, name, "--reopen")[1]
    assert call("remove", run)[0] == 2
    assert call("remove", run, name, "--reopen", "--out", run)[0] == 2
    alone = Path(shutil.copytree(older, tmp_path / "alone"))
    assert "lies in no run" in call("remove", alone, name)[1]
    code, text = call("remove", alone, name, "--out", tmp_path / "without")
    assert code == 0, text
    left = [c.id for c in iirl.load_release(tmp_path / "without").corrections]
    assert left == [c.id for c in iirl.load_release(alone).corrections if c.id != name]
    assert f"taken away: {name}." in (tmp_path / "without" / CARD).read_text()
    assert json.loads(call("show", alone, name, "--json")[1])["closed"] is None
