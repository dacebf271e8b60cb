"""Which distribution offers a strategy that is not installed."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest

from iirl_engine.hookspecs import KINDS
from iirl_engine.plugins import CORE, FIRST_PARTY, Plugins
from iirl_engine.registry import Registry, UnknownStrategy
from tests.distributions import Environment

ROOT = Path(__file__).parent.parent
FILE = ROOT / "contrib" / "known_plugins.toml"


def without(dist: str) -> Registry:
    """Return the registry of this environment, as if a distribution were not installed."""
    plugins = Plugins()
    plugins.all = tuple(plugin for plugin in plugins if plugin.dist != dist)
    return Registry(plugins)


def test_the_file_lists_every_first_party_strategy_outside_the_core_and_no_other() -> None:
    registry = Registry(Plugins())
    offered = {
        kind: {e.offer.name: e.dist for e in registry.entries(kind) if e.dist in FIRST_PARTY[1:]}
        for kind in KINDS
    }
    assert CORE not in FIRST_PARTY[1:]
    known = tomllib.loads(FILE.read_text())
    assert known == {kind: names for kind, names in offered.items() if names}


@pytest.mark.parametrize(
    ("kind", "name", "dist"),
    [("auditor", "sobol", "iirl-auditors"), ("mapping", "linear", "iirl-encoders")],
)
def test_a_strategy_that_is_not_installed_is_known(kind: str, name: str, dist: str) -> None:
    with pytest.raises(UnknownStrategy) as unknown:
        without(dist).find(kind, name)
    assert unknown.value.hint == f"{dist} offers it: pip install {dist}"


def test_a_strategy_of_another_kind_is_not_meant() -> None:
    with pytest.raises(UnknownStrategy) as unknown:
        without("iirl-auditors").find("refiner", "sobol")
    assert "pip install" not in unknown.value.hint


def test_an_installed_plugin_that_is_disabled_is_not_installed_again() -> None:
    registry = Registry(Plugins(disable=["iirl-auditors"]))
    with pytest.raises(UnknownStrategy) as unknown:
        registry.find("auditor", "sobol")
    assert "pip install" not in unknown.value.hint
    assert "iirl-auditors is disabled" in unknown.value.hint


def test_the_file_is_in_the_wheel(tmp_path: Path) -> None:
    build = ("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT)
    done = Environment().execute(*build)
    assert done.code == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert packed.read("iirl_engine/known_plugins.toml") == FILE.read_bytes()
