"""`iirl audit`: what it finds in a release, what it keeps, and what its tests say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from iirl_auditors.adversarial.pgd import Pgd
from iirl_engine.as_tests import write_tests
from iirl_engine.cli.run import exit_code
from iirl_engine.errors import UsageError
from iirl_engine.knowledge import Knowledge
from iirl_engine.summary import summarize
from iirl_engine.testing import run_chain
from tests.commands import Done, Iirl
from tests.figure1_world import KNN

CHAIN = f"""
report = []
[flywheel]
rounds = 2
{KNN}[[audit]]
use = "sobol"
budget = 300
[[audit]]
use = "pgd"
budget = 512
steps = 4
[[refine]]
use = "envelope"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose release 0 has flaws and whose release 1, the stable one, has none."""
    return run_chain(CHAIN, tmp_path_factory.mktemp("audited")).run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def parsed(done: Done) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(done.out, parse_constant=pytest.fail)
    return body


def timeless(done: Done) -> dict[str, Any]:
    body = parsed(done)
    for part in ("audit", "release", "seconds"):
        body.pop(part)
    for audit in body["audits"]:
        audit.pop("seconds")
    return body


# What it finds


def test_the_stable_release_of_a_mended_run_passes(run: Path, iirl: Iirl) -> None:
    done = iirl("audit", run)
    assert done.code == 0, done.err
    assert f"release  {run / 'releases' / '0001'}" in done.out
    assert "passed: every audit ran to its end" in done.out
    assert "no flaw in" in done.out
    assert "uniform draws" in done.out
    assert "known flaws, 0 open" in done.err
    assert "sobol suspects 0 states" in done.err
    assert (run / "audits" / "0001" / "knowledge.sqlite").is_file()


def test_a_flawed_release_fails_and_its_flaws_come_as_regions(run: Path, iirl: Iirl) -> None:
    done = iirl("audit", run / "releases" / "0000", "--json")
    assert done.code == 1, done.err
    body = parsed(done)
    known = body["known"]
    assert known["open"] == known["flaws"] > 0
    assert body["flaws"] == known["open"] + sum(a["confirmed"] for a in body["audits"])
    assert sum(region["flaws"] for region in body["regions"]) == body["flaws"]
    assert all(region["open"] == region["flaws"] for region in body["regions"])
    severities = [region["severity"] for region in body["regions"]]
    assert severities == sorted(severities, reverse=True)
    told = iirl("audit", run / "releases" / "0000")
    assert told.code == 1
    assert f"failed: {body['flaws']:,} flaws in" in told.out
    assert body["regions"][0]["id"][:10] in told.out


def test_a_run_without_a_stable_release_is_audited_at_its_newest(run: Path, iirl: Iirl) -> None:
    shutil.rmtree(run / "channels")
    assert parsed(iirl("audit", run, "--json"))["release"].endswith("0001")


def test_one_seed_finds_the_same_and_another_does_not(run: Path, iirl: Iirl) -> None:
    release = run / "releases" / "0000"
    once, again, other = (
        timeless(iirl("audit", release, "--json", "--seed", seed)) for seed in (7, 7, 8)
    )
    assert once == again
    assert once["seed"] == 7
    assert once["regions"][0]["id"] != other["regions"][0]["id"] or once != other
    fresh = parsed(iirl("audit", release, "--json"))
    assert fresh["seed"] == 1
    assert len(list((run / "audits").iterdir())) == 4


def test_an_audit_that_hardly_looked_is_a_caution_everywhere(tmp_path: Path, iirl: Iirl) -> None:
    lazy = '[[audit]]\nuse = "preimage"\n[[audit]]\nuse = "shell"\nthickness = 1e300\n'
    whole = '[[audit]]\nuse = "correction-probe"\n'  # it asks about all corrections there are
    outcome = run_chain(CHAIN.replace("[[refine]]", f"{lazy}{whole}[[refine]]"), tmp_path)
    assert exit_code(outcome) == 0
    told = (
        "audit preimage asked 1 of its 8,192 queries and found nothing",
        "audit shell asked 0 of its 8,192 queries and found nothing",
    )
    for shown in (
        summarize(outcome),
        iirl("status", outcome.run).out,
        iirl("audit", outcome.run).out,
    ):
        text = " ".join(shown.split())
        assert f"no flaw is open, but {told[0]} and {told[1]}." in text.replace(
            "no flaw was found", "no flaw is open"
        )
        assert "caution: " in text
    assert iirl("audit", outcome.run).code == 0


def test_a_release_elsewhere_needs_a_chain(run: Path, tmp_path: Path, iirl: Iirl) -> None:
    release = Path(shutil.move(run / "releases" / "0000", tmp_path / "alone"))
    done = iirl("audit", release, "--out", tmp_path / "a")
    assert (done.code, done.out) == (2, "")
    assert "--chain" in done.err
    done = iirl("audit", release, "--chain", run / "chain.toml", "--out", tmp_path / "a", "--json")
    assert done.code == 1, done.err
    assert parsed(done)["known"] == {"flaws": 0, "open": 0}


def test_the_auditors_can_be_overridden(run: Path, iirl: Iirl) -> None:
    release = run / "releases" / "0000"
    body = parsed(iirl("audit", release, "--json", "--set", "audit.sobol.budget=50"))
    assert [audit["queries"] for audit in body["audits"]] == [50, 512]
    assert iirl("audit", release, "--set", "audit.sobol.bugdet=50").code == 2
    told = iirl("audit", release, "--set", "audit.sobol.budget=1").err
    assert re.search(r"^sobol suspects (0 states|1 state) after 1 query$", told, re.MULTILINE)


@pytest.mark.parametrize("there", [True, False])
def test_what_holds_no_release_is_a_usage_error(there: bool, tmp_path: Path, iirl: Iirl) -> None:
    done = iirl("audit", tmp_path if there else tmp_path / "gone")
    assert (done.code, done.out) == (2, "")
    assert "neither a run nor a release" in done.err
    assert not list(tmp_path.iterdir())


def test_a_damaged_release_is_refused(run: Path, iirl: Iirl) -> None:
    file = run / "releases" / "0001" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert iirl("audit", run).code == 3
    (run / "channels" / "stable.json").write_text("{")
    assert iirl("audit", run).code == 3
    assert not (run / "audits").exists()


# What is kept


def broken(self: Any, target: Any, context: Any) -> Iterator[Tensor]:
    yield target.low[None]
    raise RuntimeError("no more")


def stop(self: Any, target: Any, context: Any) -> Iterator[Tensor]:
    raise KeyboardInterrupt


def test_a_crashed_auditor_is_no_clean_audit(
    run: Path, iirl: Iirl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pgd, "audit", broken)
    done = iirl("audit", run)
    assert done.code == 5
    assert "pgd did not run to the end" in done.out
    assert "RuntimeError: no more" in done.out
    assert parsed(iirl("audit", run, "--resume", "--json"))["ok"] is False


def test_an_interrupted_audit_goes_on_to_the_same_result(
    run: Path, iirl: Iirl, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = run / "releases" / "0000"
    whole = timeless(iirl("audit", release, "--json"))
    with monkeypatch.context() as patch:
        patch.setattr(Pgd, "audit", stop)
        done = iirl("audit", release)
    assert done.code == 130
    assert f"--out {run / 'audits' / '0002'} --resume goes on" in done.err
    knowledge = Knowledge(run / "audits" / "0002")
    assert list(knowledge.audits_ended(1)) == ["sobol"]
    knowledge.close()
    done = iirl("audit", release, "--resume", "--json")
    assert "sobol had ended before the interruption" in done.err
    assert timeless(done) == whole
    assert timeless(iirl("audit", release, "--resume", "--json")) == whole


def test_a_killed_audit_goes_on_to_the_same_result(run: Path, iirl: Iirl) -> None:
    release = run / "releases" / "0000"
    long = ("--set", "audit.pgd.budget=40000", "--json")
    whole = timeless(iirl("audit", release, *long))
    command = [sys.executable, "-m", "iirl_engine", "audit", str(release), *long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stderr is not None
        for line in p.stderr:
            if line.startswith("sobol suspects"):
                p.send_signal(signal.SIGKILL)
    assert p.returncode == -signal.SIGKILL
    done = iirl("audit", release, "--resume", *long)
    assert "sobol had ended" in done.err
    assert timeless(done) == whole


def test_an_audit_is_not_begun_over_another(run: Path, iirl: Iirl) -> None:
    out = run / "audits" / "0001"
    assert iirl("audit", run).code == 0
    done = iirl("audit", run, "--out", out)
    assert (done.code, done.out) == (2, "")
    assert "--resume" in done.err
    for other in (("--seed", 9), ("--set", "audit.pgd.steps=5")):
        assert iirl("audit", run, "--out", out, "--resume", *other).code == 2
    done = iirl("audit", run / "releases" / "0000", "--out", out, "--resume")
    assert done.code == 2
    assert "another release" in done.err


def test_there_must_be_something_to_go_on_with(run: Path, iirl: Iirl) -> None:
    done = iirl("audit", run, "--resume")
    assert (done.code, done.out) == (2, "")
    assert "no audit to go on with" in done.err


# Its tests


def replay(file: Path, release: Path | None = None) -> Done:
    """Run a test file as a stranger would, from another folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    if release:
        environment["IIRL_RELEASE"] = str(release)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    command += ["--rootdir", str(file.parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=file.parent.parent
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("most", [10**6, 0], ids=["literals", "beside"])
def test_known_flaws_become_tests(
    run: Path, tmp_path: Path, most: int, iirl: Iirl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iirl_engine.as_tests._LITERAL", most)
    assert iirl("audit", run / "releases" / "0000").code == 1  # it knows of more flaws now
    file = tmp_path / "checks" / "test_flaws.py"
    done = iirl("audit", run, "--as-tests", file)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(file), *([] if most else [str(file.with_suffix(".npz"))])]
    passed = replay(file)
    assert passed.code == 0, passed.out
    failed = replay(file, run / "releases" / "0000")
    assert failed.code == 1
    assert "known flaws of region" in failed.out
    assert "although a norm is violated by" in failed.out
    assert "Traceback" not in failed.out
    body = parsed(iirl("audit", run, "--as-tests", file, "--json"))
    knowledge = [Knowledge(folder) for folder in (run, run / "audits" / "0001")]
    ids = {flaw for base in knowledge for flaw in base.flaws(3).ids}
    assert body["flaws"] == len(ids)
    assert f"{body['regions']} failed" in failed.out
    for base in knowledge:
        base.close()


def test_without_a_known_flaw_there_is_nothing_to_test(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no flaw is known"):
        write_tests(tmp_path / "test_x.py", {}, 0.01, tmp_path)
    with pytest.raises(UsageError, match=r"\.py"):
        write_tests(tmp_path / "test_x.txt", {"a": np.zeros((1, 2))}, 0.01, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tests_that_cannot_be_written_are_named_as_asked(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    file = tmp_path / "taken" / "test_x.py"
    with pytest.raises(UsageError, match="cannot be written") as error:
        write_tests(file, {"a": np.zeros((1, 2))}, 0.01, tmp_path)
    assert error.value.where == file
    assert error.value.next_step


def test_states_survive_as_literals(tmp_path: Path) -> None:
    states = np.array([[0.1 + 0.2, -0.0], [1e-300, 12345.678901234567]])
    (file,) = write_tests(tmp_path / "test_x.py", {"a": states}, 0.01, tmp_path)
    namespace: dict[str, Any] = {"__file__": str(file)}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    assert np.array_equal(namespace["REGIONS"]["a"], states)
