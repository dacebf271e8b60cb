"""Which plugin distributions lie on the disk; nothing of them is imported."""

from __future__ import annotations

import functools
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

GROUP = "iirl_engine"

# Returns the text of a file of a distribution's metadata, None when there is none.
Reader = Callable[[str], str | None]


def normalise(name: str) -> str:
    """Return a distribution name in its normal form: lower case, single hyphens."""
    return "-".join(
        filter(None, name.strip().lower().replace("_", "-").replace(".", "-").split("-"))
    )


@attrs.frozen
class Installed:
    """A plugin distribution as it lies on the disk; nothing of it is imported yet."""

    name: str
    version: str
    modules: tuple[str, ...]
    requires: tuple[str, ...] = ()
    damage: str = ""


def installed(first: Sequence[str]) -> list[Installed]:
    """Return every plugin distribution: the `first` ones in their order, then by name."""
    found: dict[str, Installed] = {}
    for read in _distributions():
        if plugin := _plugin(read):
            # The first on the path is the one that Python imports.
            found.setdefault(plugin.name, plugin)
    rank = {name: place for place, name in enumerate(first)}
    return [found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))]


def _distributions() -> Iterator[Reader]:
    """Yield a reader of the metadata of each distribution on the path.

    Folders are read here: to import `importlib.metadata` takes as long as to load the plugins.
    """
    for entry in sys.path:
        try:
            with os.scandir(entry or ".") as children:
                folders = [child.path for child in children if _is_metadata(child.name)]
        except NotADirectoryError:  # a zip file
            import importlib.metadata

            for dist in importlib.metadata.distributions(path=[entry]):
                yield dist.read_text
        except OSError:
            continue
        else:
            yield from (functools.partial(_text, folder) for folder in folders)


def _is_metadata(name: str) -> bool:
    return name.lower().endswith((".dist-info", ".egg-info")) or name == "EGG-INFO"


def _text(folder: str, name: str) -> str | None:
    try:
        with io.FileIO(f"{folder}/{name}") as file:
            return file.readall().decode("utf-8", "replace")
    except OSError:
        return None


def _plugin(read: Reader) -> Installed | None:
    """Read a distribution's metadata; None when it is no plugin, whatever else is wrong with it."""
    lines = [line.strip() for line in (read("entry_points.txt") or "").splitlines()]
    if f"[{GROUP}]" not in lines:
        return None
    modules: tuple[str, ...] = ()
    damage = ""
    try:
        modules = tuple(_modules(lines))
    except ValueError as error:
        damage = f"its entry_points.txt cannot be read: {error}"
    else:
        if not modules:
            return None
    headers = list(_headers(read("METADATA") or read("PKG-INFO") or ""))
    first = dict(reversed(headers))
    name, version = first.get("name"), first.get("version")
    if not name or not version:
        name = name or (modules[0].partition(".")[0] if modules else "unnamed")
        version = version or "unknown"
        damage = damage or "its METADATA has no name or no version; install it again"
    requires = tuple(value for key, value in headers if key == "requires-dist")
    return Installed(normalise(name), version, modules, requires, damage)


def _modules(lines: Iterable[str]) -> Iterator[str]:
    """Yield the module that each entry point of our group names."""
    group = ""
    for line in lines:
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            _, equals, module = line.partition("=")
            if not equals:
                raise ValueError(f"there is no '=' in {line!r}")
            if group == GROUP:
                yield module.strip()


def _headers(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name in lower case, value) of each header; they end at the first empty line."""
    for line in itertools.takewhile(bool, text.splitlines()):
        key, _, value = line.partition(":")
        yield key.lower(), value.strip()
