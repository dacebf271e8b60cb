"""Twenty plugins are listed without importing anything heavy, and one that is heavy is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributions import Environment
from tests.startup import OPTIONS, write_plugins

HEAVY = {"torch", "scipy", "numpy", "matplotlib", "pytest", "hypothesis"}


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twenty")
    write_plugins(folder, heavy={7: "import torch"})
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("light")
    return folder, write_plugins(folder)


@pytest.mark.parametrize("arguments", [("--help",), ("plugins", "list")], ids=" ".join)
def test_many_plugins_import_nothing_heavy(
    light: tuple[Path, tuple[str, ...]], arguments: tuple[str, ...]
) -> None:
    environment = Environment(path=(light[0],))
    done = environment.execute("-X", "importtime", "-m", "iirl_engine", *arguments)
    assert done.code == 0, done.stderr
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip() for line in times}
    assert {f"{name.replace('-', '_')}.options" for name in light[1]} <= modules
    assert not {module.partition(".")[0] for module in modules} & HEAVY


def test_every_one_of_many_plugins_is_listed(light: tuple[Path, tuple[str, ...]]) -> None:
    folder, names = light
    environment = Environment(path=(folder,))
    said = environment.iirl("plugins", "list").said
    assert [name for name in names if name not in said] == []
    rows = {row["dist"]: row for row in environment.iirl("plugins", "list", "--json").json()}
    assert {rows[name]["status"] for name in names} == {"loaded"}
    assert {sum(map(len, rows[name]["offers"].values())) for name in names} == {2 * len(OPTIONS)}


def test_a_heavy_hook_module_among_many_is_named(twenty: Path) -> None:
    environment = Environment(path=(twenty,), variables={"IIRL_IMPORT_LIMIT": "100"})
    done = environment.iirl("plugins", "check", "acme-07")
    assert done.code == 5
    assert "failed plugin acme-07: hook-module-is-light acme_07.hooks imports " in done.said
    assert "torch" in done.said.partition("acme_07.hooks imports ")[2].partition(" ok ")[0]
