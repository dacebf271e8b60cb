"""A whole chain in one call, for tests of plugins."""

from __future__ import annotations

from pathlib import Path

from iirl_engine.flywheel import Flywheel
from iirl_engine.records import Outcome


def run_chain(toml: str, folder: Path) -> Outcome:
    """Run a chain given as text, in `folder/run`, with the plugins that are installed.

    Parameters
    ----------
    toml
        The chain file's text; relative paths start at `folder`.
    folder
        An empty folder, such as pytest's `tmp_path`.
    """
    chain = folder / "chain.toml"
    chain.write_text(toml)
    return Flywheel.from_file(chain, out=folder / "run").run()
