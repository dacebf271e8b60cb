"""`iirl evaluate`: what it prints, writes and refuses, on a real release."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from iirl_engine import load_release
from iirl_engine.evaluation import evaluate, read_policies
from iirl_engine.release import promote
from iirl_engine.testing import run_chain
from tests.commands import Iirl
from tests.distributions import Environment

ROOT = Path(__file__).parent.parent
FLOOR = 0.25
CHAIN = f"""
report = []
[flywheel]
rounds = 0
floor = {FLOOR}
[source]
use = "npz"
path = "demos.npz"
[encoder]
use = "knn"
[mapping]
use = "exp"
[[norm]]
use = "support"
boundary = 0.5
[[audit]]
use = "sobol"
budget = 64
[[refine]]
use = "envelope"
"""


class Place(NamedTuple):
    run: Path
    release: Path
    policies: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run whose release 0 is stable, and three recordings around a circle and off it."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)

    def circle(rows: int, noise: float) -> Any:
        angle = rng.uniform(0, 2 * np.pi, rows)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise * rng.normal(size=(rows, 2))

    np.savez(folder / "demos.npz", states=circle(200, 0.02))
    outcome = run_chain(CHAIN, folder)
    manifest = (outcome.release / "manifest.json").read_bytes()
    promote(outcome.run, 0, hashlib.sha256(manifest).hexdigest())
    recordings = folder / "policies"
    recordings.mkdir()
    for name, noise, true in (("expert", 0.02, 9.0), ("noisy", 0.3, 5.0), ("random", 2.0, 0.0)):
        np.savez(
            recordings / f"{name}.npz",
            obs=circle(60, noise).astype(np.float32),
            rew=true / 20 + rng.normal(size=60),
            ep_len=[20, 20, 20],
            ep_ret=[true - 1, true, true + 1],
        )
    return Place(outcome.run, outcome.release, recordings)


def test_it_prints_the_table_and_nothing_else(place: Place, iirl: Iirl) -> None:
    done = iirl("evaluate", place.release, "--policies", place.policies)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[:4]] == ["policy", "expert*", "noisy*", "random"]
    assert "Every trivial policy earns less" in done.out or "Hackable" in done.out
    assert sorted(file.name for file in place.policies.iterdir()) == [
        "expert.npz",
        "noisy.npz",
        "random.npz",
    ]


def test_json_is_what_python_says_with_the_floor_of_the_release(place: Place, iirl: Iirl) -> None:
    done = iirl("evaluate", place.release, "--policies", place.policies, "--json")
    assert done.code == 0
    body = json.loads(done.out)
    found = evaluate(
        load_release(place.release), read_policies(place.policies), floor=FLOOR
    ).to_json()
    assert body == {
        "release": str(place.release),
        **json.loads(json.dumps(found, allow_nan=False)),
        "report": None,
    }
    assert body["floor"] == FLOOR
    assert [row["true_return"] for row in body["policies"]] == [9, 5, 0]
    assert body["ordering"]["by_return"] == pytest.approx(1)


def test_a_run_directory_stands_for_its_stable_release(place: Place, iirl: Iirl) -> None:
    bodies = []
    for named in (place.run, place.release):
        done = iirl("evaluate", named, "--policies", place.policies, "--json")
        bodies.append(json.loads(done.out) | {"release": None})
    assert bodies[0] == bodies[1]


def test_out_writes_one_page(place: Place, iirl: Iirl, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    arguments = ("evaluate", place.release, "--policies", place.policies, "--out", out)
    done = iirl(*arguments)
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"report: {out / 'evaluation.html'}"
    assert [file.name for file in out.iterdir()] == ["evaluation.html"]
    page = (out / "evaluation.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count('<img src="data:image/png;base64,') == 2
    assert len(page) < 500_000
    body = json.loads(iirl(*arguments, "--json").out)
    assert body["report"] == str(out / "evaluation.html")


def test_bad_recordings_exit_with_2_and_are_all_named(
    place: Place, iirl: Iirl, tmp_path: Path
) -> None:
    np.savez(tmp_path / "wide.npz", states=np.zeros((3, 5)))
    np.savez(tmp_path / "lengths.npz", states=np.zeros((3, 2)), ep_len=[1, 1])
    done = iirl("evaluate", place.release, "--policies", tmp_path, "--out", tmp_path / "o")
    assert (done.code, done.out) == (2, "")
    assert "5 features, the reward has 2" in done.err
    assert "a sum of 2, 3 states" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "o").exists()


def test_missing_things_are_told_apart(place: Place, iirl: Iirl, tmp_path: Path) -> None:
    assert iirl("evaluate", place.release).code == 2
    done = iirl("evaluate", place.release, "--policies", tmp_path / "nowhere")
    assert (done.code, "no such folder" in done.err) == (2, True)
    done = iirl("evaluate", place.release, "--policies", tmp_path)
    assert (done.code, "holds no policy" in done.err) == (2, True)
    assert iirl("evaluate", tmp_path, "--policies", place.policies).code == 3


def test_help_is_light() -> None:
    done = Environment().execute("-X", "importtime", "-m", "iirl_engine", "evaluate", "--help")
    assert done.code == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "iirl_engine" in names
    assert not names & {"numpy", "torch", "scipy", "matplotlib", "jinja2"}


def names_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from names_in(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from names_in(inner)


def test_json_fields_are_documented(place: Place, iirl: Iirl) -> None:
    done = iirl("evaluate", place.release, "--policies", place.policies, "--json")
    said = set(names_in(json.loads(done.out)))
    parts = re.split(r"^## ", (ROOT / "docs" / "json.md").read_text(), flags=re.MULTILINE)
    (part,) = [part for part in parts if part.startswith("`iirl evaluate --json`")]
    rows = re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE)
    told = {field.strip("` ") for row in rows for field in row.split(",")}
    assert told <= said, told - said
    spoken = set(re.findall(r"`(\w+)`", part))
    assert said <= told | spoken, said - told - spoken
