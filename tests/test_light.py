"""What only reads names and metadata imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributions import Environment, write_chain

COMPUTING = {"torch", "scipy", "sklearn", "matplotlib", "gymnasium", "mujoco"}
ARRAYS = {"numpy"}


def imported(*arguments: object, code: int = 0) -> set[str]:
    """Return the top-level names of all modules that a Python process imports."""
    done = Environment().execute("-X", "importtime", *arguments)
    assert done.code == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "iirl_engine" in names
    return names


def test_the_measure_sees_heavy_imports() -> None:
    assert imported("-c", "import iirl_engine.support") >= {"scipy", "numpy"}


def test_import_of_the_package_is_light() -> None:
    assert not imported("-c", "import iirl_engine") & (COMPUTING | ARRAYS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("plugins", "list"),
        ("plugins", "list", "--json"),
        ("plugins", "show", "pgd"),
        ("plugins", "freeze"),
        ("schema",),
    ],
    ids=" ".join,
)
def test_command_is_light(arguments: tuple[str, ...]) -> None:
    assert not imported("-m", "iirl_engine", *arguments) & (COMPUTING | ARRAYS)


def test_chain_error_comes_before_anything_heavy(tmp_path: Path) -> None:
    chain = write_chain(
        tmp_path / "c.toml", "sobol", "no-such-auditor", encoder='use = "knn"\nk = 0'
    )
    names = imported("-m", "iirl_engine", "run", chain, "--out", tmp_path / "out", code=2)
    assert not names & (COMPUTING | ARRAYS)
    assert not (tmp_path / "out").exists()


def test_good_chain_is_checked_before_anything_heavy(tmp_path: Path) -> None:
    chain = write_chain(tmp_path / "c.toml", "sobol", "ray", "pgd")
    code = f"from iirl_engine.chain import read_chain; read_chain({str(chain)!r}).dump()"
    assert not imported("-c", code) & (COMPUTING | ARRAYS)
