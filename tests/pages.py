"""Reading the documentation's pages: their fenced blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

SHELL = ("sh", "console", "bash")


@attrs.frozen
class Block:
    """A fenced block of code: its language, its caption if any, and its text."""

    language: str
    caption: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return every fenced block of a page, in order."""
    found = re.findall(
        r"""^(`{3,})(?:\{code-block\} )?(\w*)\n(?::caption: "`(\S+)`"\n\n)?(.*?)^\1$""",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [Block(*match[1:]) for match in found]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def written(folder: Path) -> dict[str, str]:
    """Return the files that an author wrote into a folder: path -> text."""
    found = [file for kind in ("py", "toml", "md") for file in folder.rglob(f"*.{kind}")]
    return {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in found}
