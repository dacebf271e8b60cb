"""The command line: what it prints where, what it exits with, and what it survives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from iirl_engine import __version__
from iirl_engine.cli import COMMANDS
from tests.commands import Iirl, Run, fingerprints, parsed, process, start
from tests.figure1_world import CHAIN, FEATURES

# --- run


def test_run_json_prints_one_documented_object_and_progress_goes_to_stderr(finished: Run) -> None:
    assert finished.done.code == 0, finished.done.err
    body = parsed(finished.done.out)
    assert body["run"] == str(finished.folder)
    assert Path(body["release"]).parent == finished.folder / "releases"
    assert len(body["rounds"]) >= 2
    counts = ("found", "confirmed", "closed", "open", "corrections", "queries")
    for turn in body["rounds"]:
        assert all(isinstance(turn[key], int) for key in counts)
        assert turn["seconds"] > 0
    assert {gate["name"] for gate in body["gates"]} == {"known-good", "closure"}
    assert all(gate["ok"] is True and gate["numbers"] for gate in body["gates"])
    assert body["open_flaws"] == 0
    assert body["queries"] == sum(turn["queries"] for turn in body["rounds"])
    assert body["seconds"] == pytest.approx(sum(turn["seconds"] for turn in body["rounds"]))
    assert {"dist": "iirl-engine", "version": __version__} in body["plugins"]
    told = finished.done.err.splitlines()
    assert told[0] == f"chain {finished.chain.name}: checked"
    assert sum(line.startswith("round 1:") for line in told) >= 1


def test_run_prints_a_summary_for_people_on_stdout(copied: Run, iirl: Iirl) -> None:
    done = iirl("run", copied.chain, "--out", copied.folder, "--resume")
    assert done.code == 0
    assert "no flaw is open" in done.out
    paths = str(copied.folder)
    assert all(len(line) <= 80 for line in done.out.splitlines() if paths not in line)


def test_a_chain_without_refiners_leaves_flaws_open_and_exits_with_1(
    finished: Run, tmp_path: Path, iirl: Iirl
) -> None:
    done = iirl(
        "run", finished.chain, "--out", tmp_path / "run", "--json",
        "--set", "refine=[]", "--set", "report=[]", "--set", "flywheel.rounds=1",
    )  # fmt: skip
    assert done.code == 1
    body = parsed(done.out)
    assert body["open_flaws"] > 0
    assert body["release"].endswith("0000")
    scored = iirl("score", tmp_path / "run", finished.chain)
    assert scored.code == 3
    assert "no stable release" in scored.err


def test_run_refuses_a_directory_that_holds_a_run_and_says_what_to_do(
    finished: Run, iirl: Iirl
) -> None:
    before = fingerprints(finished.folder)
    done = iirl("run", finished.chain, "--out", finished.folder)
    assert (done.code, done.out) == (2, "")
    assert "holds a run already" in done.err
    assert "--resume" in done.err
    assert fingerprints(finished.folder) == before


def test_run_refuses_a_directory_with_other_files_and_leaves_them_alone(
    finished: Run, tmp_path: Path, iirl: Iirl
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = iirl("run", finished.chain, "--out", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "thesis.tex" in done.err
    assert [file.name for file in tmp_path.iterdir() if file.name != ".lock"] == ["thesis.tex"]


def test_run_refuses_a_directory_that_cannot_be_made(finished: Run, iirl: Iirl) -> None:
    done = iirl("run", finished.chain, "--out", finished.chain / "run")
    assert (done.code, done.out) == (2, "")
    assert "defect" not in done.err


def test_resume_of_a_finished_run_gives_the_same_outcome(copied: Run, iirl: Iirl) -> None:
    before = fingerprints(copied.folder)
    done = iirl("run", copied.chain, "--out", copied.folder, "--resume", "--json")
    assert done.code == 0
    first, again = parsed(copied.done.out), parsed(done.out)
    for moved in ("run", "release"):
        first.pop(moved), again.pop(moved)
    assert again == first
    assert fingerprints(copied.folder) == before


def test_resume_from_the_run_s_own_chain_file_is_the_same_chain(copied: Run, iirl: Iirl) -> None:
    done = iirl("run", copied.folder / "chain.toml", "--out", copied.folder, "--resume", "--json")
    assert done.code == 0, done.err


def test_resume_with_another_chain_is_refused(copied: Run, iirl: Iirl) -> None:
    done = iirl("run", copied.chain, "--out", copied.folder, "--resume", "--set", "flywheel.seed=1")
    assert (done.code, done.out) == (2, "")
    assert "another chain" in done.err


@pytest.mark.parametrize("left", [b"", b"[flywheel", b"\xff"], ids=["empty", "cut", "binary"])
def test_resume_with_a_damaged_chain_file_in_the_run_is_no_defect(
    copied: Run, left: bytes, iirl: Iirl
) -> None:
    (copied.folder / "chain.toml").write_bytes(left)
    done = iirl("run", copied.chain, "--out", copied.folder, "--resume")
    assert done.code in (0, 2, 4)
    assert "defect" not in done.err


def test_resume_needs_the_directory(finished: Run, iirl: Iirl) -> None:
    done = iirl("run", finished.chain, "--resume")
    assert (done.code, done.out) == (2, "")
    assert "--out" in done.err


def test_a_run_directory_that_another_process_holds_is_busy(copied: Run, iirl: Iirl) -> None:
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold, copied.folder / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = iirl("run", copied.chain, "--out", copied.folder, "--resume")
        holder.communicate()
    assert (done.code, done.out) == (4, "")
    assert "another process" in done.err


# --- interrupted runs


@pytest.fixture(scope="module")
def long_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain whose rounds take long enough to be interrupted within one."""
    file = tmp_path_factory.mktemp("long") / "chain.toml"
    text = CHAIN.replace("budget = 1024", "budget = 16384").replace(
        "budget = 512", "budget = 65536"
    )
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def uninterrupted(long_chain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = process("run", long_chain, "--out", folder)
    assert done.code == 0, done.err
    return tensors(folder)


def tensors(folder: Path) -> dict[str, str]:
    return {
        name: sha for name, sha in fingerprints(folder).items() if name.endswith(".safetensors")
    }


@pytest.mark.parametrize(
    ("sent", "after", "code"),
    [
        (signal.SIGINT, "encoder", 130),
        (signal.SIGKILL, "source", -signal.SIGKILL),
        (signal.SIGKILL, "round 1: envelope", -signal.SIGKILL),
    ],
    ids=["ctrl-c in round 1", "kill -9 while learning", "kill -9 while refining"],
)
def test_a_run_that_was_stopped_midway_is_resumed_to_the_same_bytes(
    long_chain: Path,
    uninterrupted: dict[str, str],
    sent: signal.Signals,
    after: str,
    code: int,
    tmp_path: Path,
    iirl: Iirl,
) -> None:
    folder = tmp_path / "run"
    with start("run", long_chain, "--out", folder) as started:
        assert started.stderr is not None
        told = ""
        for line in started.stderr:
            told += line
            if line.startswith(after):
                started.send_signal(sent)
        out = started.stdout.read() if started.stdout else ""
    assert started.returncode == code, told
    assert (out, "Traceback" in told) == ("", False)
    if sent == signal.SIGINT:
        assert f"--out {folder} --resume" in told
    done = iirl("run", long_chain, "--out", folder, "--resume", "--json")
    assert done.code == 0, done.err
    assert tensors(folder) == uninterrupted


# --- plugins and schema


def test_plugins_freeze_prints_requirements(iirl: Iirl) -> None:
    lines = iirl("plugins", "freeze").out.splitlines()
    assert f"iirl-engine=={__version__}" in lines
    rows = parsed(iirl("plugins", "freeze", "--json").out)
    assert [f"{row['dist']}=={row['version']}" for row in rows] == lines


def test_schema_prints_one_json_object(iirl: Iirl) -> None:
    done = iirl("schema")
    assert (done.code, done.err) == (0, "")
    assert set(parsed(done.out)["required"]) == {"source", "encoder", "mapping", "norm", "audit"}


# --- the command itself


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in COMMANDS)]
    + [["plugins", name] for name in ("list", "show", "check", "freeze")]
    + [["corrections", name] for name in ("list", "show", "preview", "remove")],
    ids=" ".join,
)
def test_every_command_has_help_that_fits_80_columns(command: list[str], iirl: Iirl) -> None:
    done = iirl(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: iirl")
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["frobnicate"], "known: run, demo, status"),
        (["plugins", "lsit"], "list"),
        (["demo", "figure2"], "figure1, icu-sepsis, pointmaze"),
        (["run"], "CHAIN"),
        (["run", "gone.toml"], "there is no such chain file"),
        (["run", "x.toml", "--sett", "a=1"], "--set"),
        (["plugins", "show", "gone"], "known"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_exits_with_2_and_a_hint(
    arguments: list[str],
    told: str,
    iirl: Iirl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = iirl(*arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not list(tmp_path.iterdir())


def test_version(iirl: Iirl) -> None:
    assert iirl("--version").out.split()[-1] == __version__


@pytest.mark.parametrize("arguments", [("--debug", "status"), ("status", "--debug")])
def test_debug_shows_the_traceback_before_the_message(
    arguments: tuple[str, ...], tmp_path: Path, iirl: Iirl
) -> None:
    done = iirl(*arguments, tmp_path)
    assert done.code == 2
    assert done.err.startswith("Traceback")
    assert "iirl: this directory holds no run" in done.err
    assert "Traceback" not in iirl("status", tmp_path).err


@pytest.mark.parametrize("command", ["plugins list", "schema"])
def test_a_reader_that_leaves_early_is_no_error(command: str) -> None:
    line = f"'{sys.executable}' -m iirl_engine {command} | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_scores_whose_reader_leaves_early_are_no_error(finished: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.zeros((20_000, FEATURES)))
    line = f"'{sys.executable}' -m iirl_engine score '{finished.folder}' '{tmp_path}/many.npy'"
    done = subprocess.run(f"{line} | head -1", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
