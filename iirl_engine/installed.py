"""Which plugin distributions lie on the disk; nothing of them is imported."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from typing import Any

import attrs

GROUP = "iirl_engine"


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
    for dist in importlib.metadata.distributions():
        if plugin := _read(dist):
            # The first on the path is the one that Python imports.
            found.setdefault(plugin.name, plugin)
    rank = {name: place for place, name in enumerate(first)}
    return [found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))]


def _read(dist: importlib.metadata.Distribution) -> Installed | None:
    """Read a distribution's metadata; None when it is no plugin, whatever else is wrong with it."""
    text = dist.read_text("entry_points.txt") or ""
    if not re.search(rf"^\s*\[\s*{GROUP}\s*\]", text, re.MULTILINE):
        return None
    modules: tuple[str, ...] = ()
    damage = ""
    try:
        modules = tuple(point.value for point in dist.entry_points if point.group == GROUP)
    except Exception as error:
        reason = " ".join(str(error).split())
        damage = f"its entry_points.txt cannot be read: {type(error).__name__}: {reason}"
    else:
        if not modules:
            return None
    metadata: Any = dist.metadata
    name, version = metadata.get("Name"), metadata.get("Version")
    if not name or not version:
        name = name or (modules[0].partition(".")[0] if modules else "unnamed")
        version = version or "unknown"
        damage = damage or "its METADATA has no name or no version; install it again"
    return Installed(normalise(name), version, modules, tuple(dist.requires or ()), damage)
