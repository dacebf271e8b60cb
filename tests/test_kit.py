"""The kit in a test suite, with pytest and with unittest, its helpers, and its command."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from iirl_engine.errors import UsageError
from iirl_engine.testing import checks, conformance, run_chain
from tests.careful_plugin import OFFERED, failing, files, installed, verdicts
from tests.careless import CARELESS, Careless
from tests.distributions import Environment, write_installed


def in_a_session(folder: Path, careless: Careless, text: str, *command: str) -> tuple[int, str]:
    """Run a test file in a process of its own, with a careless plugin on its path."""
    path = write_site(folder / "site", careless.files())
    tests = folder / "tests"
    tests.mkdir()
    (tests / "test_acme.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tests,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


def write_site(folder: Path, contents: dict[str, str]) -> Path:
    """Write the plugin as pip would have installed it."""
    folder.mkdir()
    return write_installed(folder, "careful", files=contents)


PYTEST = ("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "error", "test_acme.py")


def test_expected_failures_are_strict_xfails_with_their_reason(tmp_path: Path) -> None:
    text = """
        from iirl_engine.testing import conformance

        KNOWN = {
            "gate good-gate: a-ruined-candidate-is-refused": "it is being rewritten",
            "gate good-gate: a-sound-candidate-passes": "does not come",
        }

        @conformance("careful", expected_failures=KNOWN)
        def test_known(check):
            check()

        @conformance("careful")
        def test_all(check):
            check()
    """
    code, said = in_a_session(tmp_path, CARELESS["passes everything"], text, *PYTEST)
    assert code == 1
    assert "2 failed" in said
    assert "1 xfailed" in said
    lines = said.splitlines()
    ruined, sound = "gate good-gate: a-ruined-candidate-is-refused", "a-sound-candidate-passes"
    (expected,) = (line for line in lines if line.startswith("XFAIL "))
    assert expected == f"XFAIL test_acme.py::test_known[{ruined}] - it is being rewritten"
    strict, unexpected = (line for line in lines if line.startswith("FAILED "))
    assert f"test_known[gate good-gate: {sound}] - [XPASS(strict)] does not come" in strict
    assert f"test_all[{ruined}]" in unexpected
    assert "CheckFailed: a reward that endorses only what is forbidden passes" in said


def test_an_expected_failure_of_no_check_is_an_error_of_use(tmp_path: Path) -> None:
    with (
        installed(tmp_path, files(["gate"])) as plugin,
        pytest.raises(UsageError, match="expected failures of no check") as caught,
    ):
        conformance(plugin, expected_failures={"gate good-gate: no-such-check": "why not"})
    assert caught.value.got == "gate good-gate: no-such-check"


def test_the_kit_works_with_unittest_and_imports_no_pytest(tmp_path: Path) -> None:
    text = """
        import sys
        import unittest

        from iirl_engine.testing import checks

        class Conformance(unittest.TestCase):
            def test_it(self):
                for check in checks("careful"):
                    with self.subTest(str(check)):
                        check()

            def test_pytest_is_not_there(self):
                for check in checks("careful"):
                    str(check)
                self.assertNotIn("pytest", sys.modules)
    """
    careless = CARELESS["passes everything"]
    code, said = in_a_session(tmp_path, careless, text, "-m", "unittest", "test_acme")
    assert code == 1
    assert "FAILED (failures=1)" in said
    assert "FAIL: test_it (test_acme.Conformance.test_it) [gate good-gate: a-ruined-cand" in said


def test_import_of_the_kit_imports_no_pytest() -> None:
    code = (
        "import sys, iirl_engine.testing as kit; [getattr(kit, name) for name in kit.__all__]; "
        "print(sorted({'pytest', 'hypothesis'} & sys.modules.keys()))"
    )
    done = Environment().execute("-c", code)
    assert done.code == 0, done.stderr
    assert done.out == "[]\n"


def test_a_faked_distribution_is_found_and_leaves_nothing_behind(tmp_path: Path) -> None:
    from importlib.metadata import PackageNotFoundError, version

    path, modules = list(sys.path), set(sys.modules)
    with installed(tmp_path, files(["gate"])) as plugin:
        assert version(plugin) == "1.0"
        assert verdicts(plugin) == {}
        assert "careful.strategies" in sys.modules
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if name.startswith("careful")}
    with pytest.raises(PackageNotFoundError):
        version(plugin)
    with pytest.raises(UsageError, match="no such plugin is installed"):
        next(checks(plugin))


def test_a_faked_distribution_is_gone_after_an_error_too(tmp_path: Path) -> None:
    path = list(sys.path)
    with pytest.raises(ZeroDivisionError), installed(tmp_path, files(["gate"])):
        raise ZeroDivisionError
    assert sys.path == path


def test_two_faked_distributions_in_turn_do_not_mix(tmp_path: Path) -> None:
    for name, expected in (("a", set()), ("b", {"a-ruined-candidate-is-refused"})):
        contents = files(["gate"]) if name == "a" else CARELESS["passes everything"].files()
        (tmp_path / name).mkdir()
        with installed(tmp_path / name, contents) as plugin:
            assert failing(verdicts(plugin)) == expected


def test_a_chain_runs_in_one_call(tmp_path: Path) -> None:
    chain = """
        report = []
        [flywheel]
        rounds = 1
        [source]
        use = "good-source"
        [encoder]
        use = "good-encoder"
        [mapping]
        use = "good-mapping"
        [[norm]]
        use = "good-norm"
        [[audit]]
        use = "good-auditor"
        budget = 64
        [[refine]]
        use = "good-refiner"
        [[gate]]
        use = "good-gate"
    """
    path = list(sys.path)
    (tmp_path / "site").mkdir()
    with installed(tmp_path / "site", files(OFFERED)):
        outcome = run_chain(textwrap.dedent(chain), tmp_path)
    assert outcome.run == tmp_path / "run"
    assert [audit.auditor for audit in outcome.rounds[0].audits] == ["good-auditor"]
    assert outcome.rounds[0].audits[0].status in ("clean", "findings")
    assert ("acme-careful", "1.0") in outcome.plugins
    assert sys.path == path


# The kit on the command line.


def test_the_command_passes_the_careful_plugin(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", files(("gate", "triage")))
    done = Environment(path=(site,)).iirl("plugins", "check", "careful")
    assert done.code == 0, done.out + done.stderr
    lines = done.out.splitlines()
    assert lines[0] == "ok     plugin careful: loads"
    assert all(line.startswith("ok ") for line in lines)
    assert "ok     gate good-gate: a-ruined-candidate-is-refused" in lines


def test_the_command_fails_a_careless_plugin_and_says_why(tmp_path: Path) -> None:
    careless = CARELESS["an option that is changed when it is read"]
    site = write_site(tmp_path / "site", careless.files())
    done = Environment(path=(site,)).iirl("plugins", "check", "careful")
    assert done.code == 5
    lines = done.out.splitlines()
    (failed,) = (i for i, line in enumerate(lines) if line.startswith("failed"))
    assert lines[failed] == "failed auditor good-auditor: options-survive-toml"
    assert lines[failed + 1].startswith("       option label became ")
    assert max(map(len, lines)) <= 80


def test_the_command_gives_its_verdicts_as_json(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", CARELESS["a target of another kind"].files())
    done = Environment(path=(site,)).iirl("plugins", "check", "careful", "--json")
    assert done.code == 5
    told = done.json()
    assert (told["plugin"], told["ok"]) == ("careful", False)
    rows = {row["check"]: (row["verdict"], row["reason"]) for row in told["checks"]}
    assert {verdict for verdict, _ in rows.values()} == {"ok", "failed", "skip"}
    assert all(reason == "" for verdict, reason in rows.values() if verdict == "ok")
    verdict, reason = rows["encoder good-encoder: target-is-of-its-kind"]
    assert verdict == "failed"
    assert "is no iirl_engine.api:Encoder" in reason
    skipped = rows["encoder good-encoder: loss-is-differentiable"]
    assert skipped == ("skip", "its target cannot be loaded")
