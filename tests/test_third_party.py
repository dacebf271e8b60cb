"""A stranger's plugin, built as a wheel and installed by pip: found, checked, used, missed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.distributions import (
    Done,
    Environment,
    hooks,
    layered_environment,
    write_chain,
    write_project,
)

DIST, VERSION = "acme-audit", "1.2.0"
LIFECYCLE = """

@hookimpl
def iirl_round_finished(event):
    import json
    import os

    with open(os.environ["ACME_AUDIT_LOG"], "a") as file:
        line = {"round": event.round.number, "confirmed": event.round.confirmed}
        file.write(json.dumps(line) + "\\n")
"""
MOE = 'use = "moe-autoencoder"\nsteps = 60'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acme-audit")
    files = {"hooks.py": hooks("acme_audit", "wanderer") + LIFECYCLE}
    project = write_project(folder / "source", DIST, VERSION, files)
    done = Environment().execute(
        "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", project
    )
    assert done.code == 0, done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def install(folder: Path, wheel: Path) -> Environment:
    environment = layered_environment(folder)
    environment.pip("install", "--no-deps", "--no-index", wheel)
    return environment


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    return install(tmp_path_factory.mktemp("installed") / "venv", wheel)


def test_list_shows_what_the_plugin_offers(environment: Environment) -> None:
    listed = environment.iirl("plugins", "list")
    assert listed.code == 0
    assert "acme-audit 1.2.0: loaded auditor wanderer hooks iirl_round_finished" in listed.said


def test_list_json_describes_the_plugin(environment: Environment) -> None:
    found = {
        plugin["dist"]: plugin for plugin in environment.iirl("plugins", "list", "--json").json()
    }
    acme = found[DIST]
    assert (acme["version"], acme["status"], acme["reason"]) == (VERSION, "loaded", "")
    assert acme["module"] == "acme_audit.hooks"
    assert acme["hooks"] == ["iirl_round_finished"]
    assert acme["offers"] == {
        "auditor": [{"name": "wanderer", "summary": "a few random states", "shadowed_by": ""}]
    }


def test_show_tells_the_options(environment: Environment) -> None:
    for name in (DIST, "wanderer", "acme-audit:wanderer"):
        shown = environment.iirl("plugins", "show", name)
        assert shown.code == 0
        assert "auditor acme-audit:wanderer: a few random states" in shown.said
        assert "budget reward queries per round (int, default 256)" in shown.said
    (strategy,) = environment.iirl("plugins", "show", DIST, "--json").json()["strategies"]
    assert strategy["options"]["properties"]["budget"]["minimum"] == 1


def test_check_passes(environment: Environment) -> None:
    checked = environment.iirl("plugins", "check", DIST, "--json")
    assert checked.code == 0
    assert checked.json()["ok"]
    assert {row["check"] for row in checked.json()["checks"]} >= {
        "plugin acme-audit: loads",
        "plugin acme-audit: hook-module-is-light",
        "auditor wanderer: target-is-of-its-kind",
    }


def test_freeze_pins_the_plugin(environment: Environment) -> None:
    assert "acme-audit==1.2.0" in environment.iirl("plugins", "freeze").out.splitlines()
    frozen = environment.iirl("plugins", "freeze", "--json").json()
    assert {"dist": DIST, "version": VERSION} in frozen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> tuple[Done, Path]:
    """Run a chain that names the auditor both ways; return what was said, and the folder."""
    folder = tmp_path_factory.mktemp("run")
    chain = write_chain(
        folder / "flywheel.toml", "wanderer", "acme-audit:wanderer", encoder=MOE, rounds=3
    )
    observed = Environment(
        environment.python, variables={"ACME_AUDIT_LOG": str(folder / "log.jsonl")}
    )
    return observed.iirl("run", chain, "--out", folder / "out", "--json"), folder


def test_chain_uses_the_auditor_by_bare_and_by_qualified_name(run: tuple[Done, Path]) -> None:
    done, _ = run
    assert done.code == 0, done.stderr
    first = done.json()["rounds"][0]
    assert [audit["auditor"] for audit in first["audits"]] == ["audit-0", "audit-1"]
    assert all(audit["confirmed"] > 0 for audit in first["audits"])
    assert done.json()["open_flaws"] == 0
    assert {"dist": DIST, "version": VERSION} in done.json()["plugins"]


def test_effective_chain_holds_qualified_names_and_pins(run: tuple[Done, Path]) -> None:
    _, folder = run
    effective = tomllib.loads((folder / "out" / "chain.toml").read_text())
    assert [step["use"] for step in effective["audit"]] == ["acme-audit:wanderer"] * 2
    assert effective["encoder"]["use"] == "iirl-encoders:moe-autoencoder"
    assert "acme-audit==1.2.0" in effective["flywheel"]["require"]


def test_lifecycle_hook_of_the_plugin_runs(run: tuple[Done, Path]) -> None:
    done, folder = run
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert logged == [
        {"round": r["number"], "confirmed": r["confirmed"]} for r in done.json()["rounds"]
    ]


def test_chain_without_the_plugin_names_it_and_what_to_do(tmp_path: Path, wheel: Path) -> None:
    environment = install(tmp_path / "venv", wheel)
    bare = write_chain(tmp_path / "bare.toml", "wanderer")
    full = write_chain(tmp_path / "full.toml", "acme-audit:wanderer")
    needs = write_chain(tmp_path / "needs.toml", "sobol", flywheel='require = ["acme-audit>=1"]')
    environment.pip("uninstall", "-y", DIST)

    done = environment.iirl("run", bare, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "audit[0].use: no auditor 'wanderer' among the installed plugins" in done.err
    assert "install the plugin that offers it" in done.err

    done = environment.iirl("run", full, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "no auditor 'acme-audit:wanderer': the plugin 'acme-audit' is not installed" in done.err
    assert "pip install acme-audit" in done.err

    done = environment.iirl("run", needs, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "flywheel.require[0]: plugin 'acme-audit' is not installed" in done.err
    assert "pip install 'acme-audit>=1'" in done.err
    assert not (tmp_path / "out").exists()


def test_require_with_an_unmet_version_fails_early(
    tmp_path: Path, environment: Environment
) -> None:
    chain = write_chain(tmp_path / "c.toml", "wanderer", flywheel='require = ["Acme_Audit>=2"]')
    done = environment.iirl("run", chain, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "plugin 'acme-audit' is installed in version 1.2.0, not >=2" in done.err
    assert "pip install 'Acme_Audit>=2'" in done.err
    assert not (tmp_path / "out").exists()
