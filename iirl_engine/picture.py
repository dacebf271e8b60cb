"""What a picture is, and which text can stand in it."""

from __future__ import annotations

import functools

import attrs
from matplotlib import font_manager

FONT = "DejaVu Sans"
INK, GREY = "#16161d", "#5a5a66"


@attrs.frozen
class Picture:
    """A PNG image, and what it shows for those who do not see it."""

    png: bytes
    alt: str


def drawable(text: str, most: int) -> str:
    """Return text with only the glyphs the font has, cut to `most` of them."""
    known = _glyphs()
    shown = "".join(c if c.isprintable() and ord(c) in known else "?" for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())
