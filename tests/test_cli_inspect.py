"""`iirl status`, `score`, `explain` and `report`: what they tell of a run and of a damaged one."""

from __future__ import annotations

import csv
import html
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iirl_auditors.adversarial.pgd import Pgd
from tests.commands import Iirl, Run, fingerprints, names, parsed
from tests.distributions import Environment, write_installed
from tests.figure1_world import CHAIN, FEATURES


@pytest.fixture(scope="module")
def states() -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(0)
    drawn = rng.uniform(-1, 1, (400, FEATURES))
    drawn[3, 1], drawn[4, 0] = np.nan, np.inf
    return drawn


@pytest.fixture(scope="module")
def files(
    states: np.ndarray[Any, np.dtype[np.float64]],
    finished: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The same states in each format that is read."""
    folder = tmp_path_factory.mktemp("states")
    found = {kind: folder / f"states.{kind}" for kind in ("npy", "npz", "csv")}
    np.save(found["npy"], states)
    np.savez(found["npz"], states=states, t=np.arange(len(states)))
    with found["csv"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["episode", *reversed(names(finished))])
        rows.writerows([0, *map(repr, reversed(row))] for row in states.tolist())
    return found


# --- status


def interrupted(self: Any, target: Any, context: Any) -> Any:
    raise KeyboardInterrupt


def test_status_tells_rounds_releases_and_the_stable_one(finished: Run, iirl: Iirl) -> None:
    outcome = parsed(finished.done.out)
    done = iirl("status", finished.folder, "--json")
    assert (done.code, done.err) == (0, "")
    body = parsed(done.out)
    assert body["rounds"] == len(outcome["rounds"])
    assert body["open_flaws"] == 0
    assert body["stable"] == body["releases"][-1] == Path(outcome["release"]).name
    told = iirl("status", finished.folder)
    assert told.code == 0
    assert f"rounds:     {body['rounds']}" in told.out
    assert body["verdict"]["level"] == "passed"
    assert body["verdict"]["text"] in " ".join(told.out.split())


def test_status_of_an_interrupted_round_tells_what_it_suspects(
    iirl: Iirl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, folder = tmp_path / "chain.toml", tmp_path / "run"
    chain.write_text(CHAIN.replace("report = []\n", "") + '[[report]]\nuse = "html"\n')
    with monkeypatch.context() as patch:
        patch.setattr(Pgd, "audit", interrupted)
        assert iirl("run", chain, "--out", folder).code == 130
    body = parsed(iirl("status", folder, "--json").out)
    assert (body["rounds"], body["open_flaws"], body["audits_ended"]) == (0, 0, ["sobol"])
    many = body["suspected"]
    assert many > 0
    told = " ".join(iirl("status", folder).out.split())
    assert f"open flaws: 0, and {many:,} states suspected, not verified yet" in told
    assert f"unfinished: round 1, audits that ended: sobol (suspects {many:,})" in told
    assert f"caution: round 1 is unfinished, with {many:,} suspected states that will be" in told
    assert iirl("report", folder).code == 0
    page = (folder / "report.html").read_text()
    assert f"Round 1 is unfinished, with {many:,} suspected states" in page
    assert "othing was audited" not in page


def test_status_of_a_run_with_open_flaws_is_failed(iirl: Iirl, tmp_path: Path) -> None:
    chain, folder = tmp_path / "chain.toml", tmp_path / "run"
    # The last auditor's flaws stay open: no refiner follows.
    chain.write_text(CHAIN[: CHAIN.index("[[refine]]")])
    assert iirl("run", chain, "--out", folder).code == 1
    assert "failed: after" in iirl("status", folder).out


@pytest.mark.parametrize("command", ["status", "report"])
@pytest.mark.parametrize("there", [True, False])
def test_a_directory_without_a_run_is_a_usage_error(
    command: str, there: bool, tmp_path: Path, iirl: Iirl
) -> None:
    done = iirl(command, tmp_path if there else tmp_path / "gone")
    assert (done.code, done.out) == (2, "")
    assert "holds no run" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["status", "report", "run"])
@pytest.mark.parametrize("damage", ["overwritten", "cut", "emptied"])
def test_a_damaged_knowledge_base_exits_with_4(
    copied: Run, command: str, damage: str, iirl: Iirl
) -> None:
    file = copied.folder / "knowledge.sqlite"
    data = file.read_bytes()
    left = {"overwritten": os.urandom(4096), "cut": data[: len(data) // 3], "emptied": b""}
    file.write_bytes(left[damage])
    for log in copied.folder.glob("knowledge.sqlite-*"):
        log.unlink()
    before = fingerprints(copied.folder)
    resumed = (copied.chain, "--out", copied.folder, "--resume")
    done = iirl(command, *(resumed if command == "run" else (copied.folder,)))
    assert done.code == 4, done
    assert "knowledge base" in done.err
    assert "defect" not in done.err
    assert fingerprints(copied.folder) == before


# --- score and explain


def test_score_is_the_same_for_each_format_and_for_release_and_run(
    finished: Run,
    files: dict[str, Path],
    states: np.ndarray[Any, np.dtype[np.float64]],
    iirl: Iirl,
) -> None:
    release = parsed(finished.done.out)["release"]
    answers = {
        (str(model), kind): iirl("score", model, file)
        for model in (release, finished.folder)
        for kind, file in files.items()
    }
    assert {done.code for done in answers.values()} == {0}
    assert len({done.out for done in answers.values()}) == 1
    done = iirl("score", release, files["npy"], "--json")
    rewards = np.array(parsed(done.out)["rewards"])
    printed = [float(line) for line in answers[release, "npy"].out.splitlines()]
    assert printed == pytest.approx(rewards.tolist(), rel=1e-8)
    assert len(rewards) == len(states)
    assert ((rewards >= 0) & (rewards <= 1)).all()
    assert rewards[[3, 4]].tolist() == [0.0, 0.0]
    assert np.unique(rewards).size > 2


def test_scoring_states_of_another_width_names_the_features(
    finished: Run, tmp_path: Path, iirl: Iirl
) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((2, FEATURES + 1)))
    done = iirl("score", finished.folder, tmp_path / "wide.npy")
    assert (done.code, done.out) == (2, "")
    assert all(name in done.err for name in names(finished))
    assert f"[2, {FEATURES + 1}]" in done.err


@pytest.mark.parametrize("command", ["score", "explain"])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.npy", None, "no such file"),
        ("empty.npy", b"", "cannot be read"),
        ("empty.npz", b"", "cannot be read"),
        ("empty.csv", b"", "does not name the feature"),
        ("header.csv", b"HEADER\n", "a header and no rows"),
        ("unnamed.csv", b"0.1,0.2,0.3\n0.1,0.2,0.3\n", "does not name the feature"),
        ("short.csv", b"HEADER\n0.1,0.2\n", "fewer values"),
        ("text.csv", b"HEADER\n0.1,0.2,far\n", "cannot be read"),
        ("broken.npz", b"PK\x03\x04broken", "cannot be read"),
        ("text.npy", b"0.1 0.2 0.3", "cannot be read"),
        ("states.parquet", b"PAR1", ".npy, .npz or .csv"),
    ],
)
def test_states_that_cannot_be_read_exit_with_2(
    finished: Run,
    command: str,
    name: str,
    content: bytes | None,
    told: str,
    tmp_path: Path,
    iirl: Iirl,
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.replace(b"HEADER", ",".join(names(finished)).encode()))
    done = iirl(command, finished.folder, file)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert str(file) in done.err


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"positions": np.zeros((1, FEATURES))}, "no array 'states'"),
        ({"states": np.zeros(FEATURES)}, "two axes"),
        ({"states": np.array([["a"] * FEATURES])}, "integers or floats"),
        ({"states": np.array([[{}] * FEATURES])}, "cannot be read"),
    ],
    ids=["no states", "one axis", "texts", "pickled"],
)
def test_arrays_that_are_no_states_exit_with_2(
    finished: Run, arrays: dict[str, Any], told: str, tmp_path: Path, iirl: Iirl
) -> None:
    np.savez(tmp_path / "states.npz", **arrays)
    done = iirl("score", finished.folder, tmp_path / "states.npz")
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_an_array_file_under_the_other_suffix_exits_with_2(
    finished: Run, files: dict[str, Path], tmp_path: Path, iirl: Iirl
) -> None:
    for true, claimed in (("npy", "npz"), ("npz", "npy")):
        file = tmp_path / f"states.{claimed}"
        shutil.copy(files[true], file)
        done = iirl("score", finished.folder, file)
        assert (done.code, done.out) == (2, "")
        assert "defect" not in done.err


def test_explain_adds_up_to_the_reward(
    finished: Run,
    states: np.ndarray[Any, np.dtype[np.float64]],
    tmp_path: Path,
    iirl: Iirl,
) -> None:
    finite = states[np.isfinite(states).all(axis=1)]
    file = tmp_path / "finite.npy"
    np.save(file, finite)
    done = iirl("explain", finished.folder, file, "--json")
    assert done.code == 0
    body = parsed(done.out)
    assert body["features"] == names(finished)
    scored = parsed(iirl("score", finished.folder, file, "--json").out)["rewards"]
    assert [why["reward"] for why in body["states"]] == scored
    for why, state in zip(body["states"], finite, strict=True):
        rest = why["base"] - sum(why["corrections"].values())
        assert why["reward"] == pytest.approx(min(max(rest, 0.0), 1.0), abs=1e-12)
        assert why["loss"] >= 0
        apart = np.linalg.norm(state - np.array(why["nearest_state"]))
        assert why["distance"] == pytest.approx(apart)
        assert ("support" in why["violated"]) == (apart > 0.34)
    assert any(why["corrections"] for why in body["states"])

    told = iirl("explain", finished.folder, file).out
    first = body["states"][0]
    assert re.search(rf"state 0 \([^()]+\): reward {first['reward']:.4g}", told)
    assert f"expertness loss {first['loss']:.4g}" in told
    assert f"at distance {first['distance']:.4g}" in told
    assert "norm support is violated by" in told
    assert "correction " in told


def test_explain_gives_states_that_hold_nan_no_reward_and_prints_strict_json(
    finished: Run, files: dict[str, Path], iirl: Iirl
) -> None:
    done = iirl("explain", finished.folder, files["npy"], "--json")
    assert done.code == 0
    rows = parsed(done.out)["states"]
    assert [rows[row]["reward"] for row in (3, 4)] == [0.0, 0.0]
    assert all("support" in rows[row]["violated"] for row in (3, 4))


# --- releases


@pytest.mark.parametrize("name", ["run", "release"])
@pytest.mark.parametrize("damage", ["flipped byte", "missing file", "missing manifest"])
def test_a_damaged_release_is_refused_with_3(
    copied: Run, files: dict[str, Path], name: str, damage: str, iirl: Iirl
) -> None:
    release = copied.folder / "releases" / Path(parsed(copied.done.out)["release"]).name
    if damage == "flipped byte":
        file = release / "tensors.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        gone = "manifest.json" if damage == "missing manifest" else "tensors.safetensors"
        (release / gone).unlink()
    for command in ("score", "explain"):
        done = iirl(command, copied.folder if name == "run" else release, files["npy"])
        assert (done.code, done.out) == (3, "")
        assert "defect" not in done.err


def test_an_edited_manifest_is_refused_under_the_stable_channel(
    copied: Run, files: dict[str, Path], iirl: Iirl
) -> None:
    release = copied.folder / "releases" / Path(parsed(copied.done.out)["release"]).name
    manifest = release / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"cap": 0.3', '"cap": 3.0'))
    done = iirl("score", copied.folder, files["npy"])
    assert (done.code, done.out) == (3, "")
    assert "manifest" in done.err


def test_a_release_that_does_not_exist_is_refused_with_3(
    files: dict[str, Path], tmp_path: Path, iirl: Iirl
) -> None:
    done = iirl("score", tmp_path / "gone", files["npy"])
    assert (done.code, done.out) == (3, "")
    assert "no such release" in done.err


# --- report


def test_report_writes_the_reports_of_a_run_again(
    finished: Run, tmp_path: Path, iirl: Iirl
) -> None:
    folder = tmp_path / "run"
    reports = "report=[{use='text'}, {use='html'}]"
    done = iirl("run", finished.chain, "--out", folder, "--set", reports)
    assert done.code == 0, done.err
    written = [folder / "report.txt", folder / "report.html"]
    before = [file.read_bytes() for file in written]
    for file in written:
        file.unlink()
    done = iirl("report", folder)
    assert done.code == 0, done.err
    assert [Path(line) for line in done.out.splitlines()] == written
    assert [file.read_bytes() for file in written] == before
    assert parsed(iirl("report", folder, "--json").out)["files"] == list(map(str, written))


def test_report_needs_no_plugin_that_only_audited_or_repaired(tmp_path: Path) -> None:
    """Said to be missing are those that took part, and the rest of the report stays the same."""
    (tmp_path / "site").mkdir()
    site = write_installed(tmp_path / "site", "acme-audit")
    chain, folder = tmp_path / "chain.toml", tmp_path / "run"
    chain.write_text(
        CHAIN.replace("report = []", "report = [{use = 'text'}, {use = 'html'}]")
        + "[[audit]]\nuse = 'acme-audit:thing'\n"
    )
    done = Environment(path=(site,)).iirl("run", chain, "--out", folder)
    assert done.code == 0, done.stderr
    written = [folder / "report.txt", folder / "report.html"]
    before = [file.read_text() for file in written]
    for file in written:
        file.unlink()

    again = Environment().iirl("report", folder)
    assert again.code == 0, again.stderr
    said = "plugin 'acme-audit' is not installed"
    assert said in again.stderr
    assert [Path(line) for line in again.out.splitlines()] == written
    text, page = (file.read_text() for file in written)
    assert "acme-audit 1.0" in text
    assert text.replace(f"since the run: {said}\n", "") == before[0]
    assert f"Since the run: {said}." in html.unescape(page)
    assert len(page) - len(before[1]) < 100
    assert Environment().iirl("report", folder, "--json").json()["missing"] == [said]


def test_report_without_any_reporter_or_without_the_encoder_says_what_to_install(
    finished: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    chain = folder / "chain.toml"
    told = chain.read_text()
    chain.write_text(told.replace("report = []", 'report = [{use = "acme-page:page"}]'))
    done = Environment().iirl("report", folder)
    assert done.code == 2
    assert "the plugin 'acme-page' is not installed" in done.stderr
    chain.write_text(told.replace("report = []", 'report = [{use = "text"}]'))
    less = Environment(variables={"IIRL_DISABLE": "iirl-encoders"})
    done = less.iirl("report", folder)
    assert done.code == 5
    assert "iirl-encoders is disabled" in done.err
    # Whoever audited and repaired may be away.
    less = Environment(variables={"IIRL_DISABLE": "iirl-auditors,iirl-refiners"})
    done = less.iirl("report", folder)
    assert done.code == 0, done.stderr
    assert "'iirl-auditors' is disabled" in done.err
