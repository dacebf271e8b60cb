"""A plugin distribution faked on a path: found by the engine as if it were installed."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def fake_dist(
    folder: Path, name: str, files: Mapping[str, str], *, version: str = "1.0", module: str
) -> Iterator[Path]:
    """Write a distribution to a folder and have this process find it.

    Parameters
    ----------
    folder
        An empty folder, such as pytest's `tmp_path`.
    name, version
        Of the distribution.
    files
        Path -> text of its files: `{"acme/hooks.py": "..."}`.
    module
        Its hook module.
    """
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[iirl_engine]\nplugin = {module}\n")
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        importlib.invalidate_caches()
        tops = {path.partition("/")[0].removesuffix(".py") for path in files}
        for imported in set(sys.modules) - before:
            if imported.partition(".")[0] in tops:
                del sys.modules[imported]
