"""What a plugin offers: a name, where it is found, and what it can be told."""

from __future__ import annotations

from typing import Any

import attrs

from iirl_engine.options import NoOptions


@attrs.frozen
class Offer:
    """One strategy that a plugin offers.

    Parameters
    ----------
    name
        Kebab-case name used in chain files.
    target
        `"package.module:Class"`, imported when a chain uses it.
    options
        Frozen attrs class with the strategy's options, in a module that imports nothing heavy.
    summary
        One line for `iirl plugins list`.
    """

    name: str
    target: str
    options: type[Any] = NoOptions
    summary: str = ""
