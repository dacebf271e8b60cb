"""Twenty plugins are listed without importing anything heavy, and one that is heavy is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributions import Environment
from tests.startup import OPTIONS, write_plugins

HEAVY = {"torch", "scipy", "numpy", "matplotlib", "flint", "pytest", "hypothesis"}
SLOW = {
    "concurrent.futures",
    "email",
    "importlib.metadata",
    "logging",
    "pathlib",
    "tomllib",
    "zipfile",
}


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twenty")
    write_plugins(folder, heavy={7: "import torch"})
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("light")
    return folder, write_plugins(folder)


def modules_after(code: str, *path: Path) -> set[str]:
    """Return the names of all modules that some code imports."""
    done = Environment(path=path).execute("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert done.code == 0, done.stderr
    return set(done.out.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("plugins", "list")], ids=" ".join)
def test_many_plugins_import_nothing_heavy(
    light: tuple[Path, tuple[str, ...]], arguments: tuple[str, ...]
) -> None:
    start = "from contextlib import suppress\nfrom iirl_engine.cli import main\n"
    start += f"with suppress(SystemExit): main({list(arguments)})"
    modules = modules_after(start, light[0])
    assert {f"{name.replace('-', '_')}.hooks" for name in light[1]} <= modules
    # What a strategy can be told is read when somebody asks.
    assert not [module for module in modules if module.endswith(".options")]
    assert not {module.partition(".")[0] for module in modules} & HEAVY
    # Of the standard library, what takes milliseconds is imported where it is used.
    needed = modules_after("import attrs, click, json, pluggy")
    assert not (modules - needed) & SLOW


def test_the_measure_sees_slow_imports() -> None:
    assert modules_after(f"import {', '.join(sorted(SLOW))}") >= SLOW


def test_memory_is_not_searched_for_cycles_at_the_end() -> None:
    code = "import atexit, gc; atexit.register(lambda: print('frozen', gc.get_freeze_count() > 0))"
    code += "\nfrom iirl_engine.cli import main\nmain(['--version'])"
    done = Environment().execute("-c", code)
    assert done.out.splitlines()[-1] == "frozen True"


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
