"""Sphinx configuration; the reference pages are written by `_ext/reference.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import iirl_engine

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "iirl-engine"
author = "the iirl-engine contributors"
release = version = iirl_engine.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"iirl-engine {release}"

myst_heading_anchors = 4
# Quotation marks in the reference are those of TOML.
smartquotes = False

napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False
# In docstrings, `single backticks` hold code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True


def _escape_bars(*event: Any) -> None:
    """Keep |s - c| in a docstring a distance; reStructuredText takes it for a substitution."""
    lines: list[str] = event[-1]
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts)


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", _escape_bars)
