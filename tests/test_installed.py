"""Plugin distributions are found wherever Python finds them, without importing anything heavy."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from iirl_engine.installed import Installed, installed, normalise
from tests.distributions import FIRST_PARTY, Environment, write_installed


def found(monkeypatch: pytest.MonkeyPatch, *path: Path | str) -> list[Installed]:
    """Return what is installed on a path."""
    monkeypatch.setattr("sys.path", [str(entry) for entry in path])
    return installed(())


def info(folder: Path) -> Path:
    """Return the metadata folder of the one distribution in a folder."""
    (one,) = folder.glob("*.dist-info")
    return one


def test_metadata_is_that_of_the_standard_library() -> None:
    plugins = installed(FIRST_PARTY)
    assert [plugin.name for plugin in plugins] == list(FIRST_PARTY)
    for plugin in plugins:
        dist = importlib.metadata.distribution(plugin.name)
        assert plugin.name == normalise(dist.metadata["Name"])
        assert plugin.version == dist.version
        assert plugin.requires == tuple(dist.requires or ())
        assert plugin.modules == tuple(
            point.value for point in dist.entry_points if point.group == "iirl_engine"
        )
        assert not plugin.damage


def test_the_first_on_the_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        write_installed(tmp_path / version, "acme", version=version) for version in ("2.0", "1.0")
    ]
    missing = tmp_path / "missing"
    assert [p.version for p in found(monkeypatch, missing, *folders)] == ["2.0"]
    assert [p.version for p in found(monkeypatch, *reversed(folders))] == ["1.0"]


def test_the_working_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_installed(tmp_path, "acme"))
    assert [p.name for p in found(monkeypatch, "")] == ["acme"]


def test_a_plugin_in_a_zip_file_loads(tmp_path: Path) -> None:
    folder = write_installed(tmp_path / "acme", "acme-zipped", version="3.0")
    file = Path(shutil.make_archive(str(tmp_path / "acme"), "zip", folder))
    rows = Environment(path=(file,)).iirl("plugins", "list", "--json").json()
    assert {row["dist"]: (row["version"], row["status"]) for row in rows}["acme-zipped"] == (
        "3.0",
        "loaded",
    )


def test_older_metadata_folders_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = info(write_installed(tmp_path / "develop", "acme-develop"))
    (old / "METADATA").rename(old / "PKG-INFO")
    old.rename(old.with_name("acme_develop.egg-info"))
    egg = write_installed(tmp_path / "acme_egg.egg", "acme-egg")
    info(egg).rename(egg / "EGG-INFO")
    plugins = found(monkeypatch, old.parent, egg)
    assert [(p.name, p.version) for p in plugins] == [("acme-develop", "1.0"), ("acme-egg", "1.0")]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_headers_end_where_the_description_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    lines = ["Metadata-Version: 2.4", "Name: Acme.Lab", "version: 1.0", "License: first line"]
    lines += ["        Name: no header", "Requires-Dist: iirl-engine>=0.1; extra == 'a'"]
    lines += ["Requires-Dist: numpy", "", "Name: of the description", "Requires-Dist: no header"]
    folder = write_installed(tmp_path, "acme")
    (info(folder) / "METADATA").write_bytes(end.join(lines).encode())
    (plugin,) = found(monkeypatch, folder)
    assert (plugin.name, plugin.version) == ("acme-lab", "1.0")
    assert plugin.requires == ("iirl-engine>=0.1; extra == 'a'", "numpy")


def test_text_that_is_no_utf8_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_installed(tmp_path / "one", "acme-one")
    with (info(folder) / "METADATA").open("ab") as file:
        file.write(b"Author: J\xf6rg\n")
    stranger = tmp_path / "two" / "stranger-1.0.dist-info"
    stranger.mkdir(parents=True)
    (stranger / "entry_points.txt").write_bytes(b"\xff\xfe")
    plugins = found(monkeypatch, folder, stranger.parent)
    assert [(p.name, p.damage) for p in plugins] == [("acme-one", "")]


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("[iirl_engine]\na = acme.hooks\n", ("acme.hooks",)),
        ("# ours\n\n  [iirl_engine]\n a=acme.hooks \n# none\n", ("acme.hooks",)),
        ("[console_scripts]\nrun = acme:run\n[iirl_engine]\na = acme.hooks\n", ("acme.hooks",)),
        ("[iirl_engine]\na = acme.hooks\n[gui_scripts]\nrun = acme:run\n", ("acme.hooks",)),
        ("[iirl_engine]\na = acme.one\nb = acme.two\n", ("acme.one", "acme.two")),
        ("[iirl_engine]\n", None),
        ("[iirl_engine.other]\na = acme.hooks\n", None),
        ("a = iirl_engine\n", None),
    ],
)
def test_entry_points_of_our_group_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, modules: tuple[str, ...] | None
) -> None:
    folder = write_installed(tmp_path, "acme")
    (info(folder) / "entry_points.txt").write_text(text)
    expected = [] if modules is None else [modules]
    assert [p.modules for p in found(monkeypatch, folder)] == expected
    theirs = importlib.metadata.Distribution.at(info(folder)).entry_points
    values = tuple(point.value for point in theirs if point.group == "iirl_engine")
    assert values == (modules or ())
