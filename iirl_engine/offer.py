"""What a plugin offers: a name, where it is found, and what it can be told."""

from __future__ import annotations

import importlib
from typing import Any

import attrs

from iirl_engine.errors import PluginError, told

_NO_OPTIONS = "iirl_engine.options:NoOptions"


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
        `"package.module:Class"`, the frozen attrs class with the strategy's options, imported
        when a chain names the strategy or somebody asks what it can be told; its module imports
        nothing heavy. The class itself will do too, at the price of importing it at each start.
    summary
        One line for `iirl plugins list`.
    """

    name: str
    target: str
    _options: type[Any] | str = _NO_OPTIONS
    summary: str = ""

    @property
    def options(self) -> type[Any]:
        """The options class, imported on first use.

        Raises
        ------
        PluginError
            When it cannot be imported, or a chain file cannot hold such options.
        """
        if not isinstance(self._options, str):
            return self._options
        try:
            return _options_class(self._options)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"the options of {self.name!r} cannot be used",
                where=self._options,
                got=told(error),
                next_step=f"whose they are says: iirl plugins show {self.name}",
            ) from error

    @property
    def options_at(self) -> str | None:
        """Where the options class is imported from; None when the offer holds the class."""
        return self._options if isinstance(self._options, str) else None


def _options_class(where: str) -> type[Any]:
    module, _, name = where.partition(":")
    cls: type[Any] = getattr(importlib.import_module(module), name)
    check_options(cls)
    return cls


def check_options(cls: Any) -> None:
    """Check that options are an attrs class that a chain file can hold.

    Raises
    ------
    TypeError
        When they are not; the message completes "its options".
    """
    import json

    from iirl_engine.options import options_schema

    if not (isinstance(cls, type) and attrs.has(cls)):
        raise TypeError("options that are no attrs class")
    try:
        json.dumps(options_schema(cls))
    except Exception as error:
        raise TypeError(
            f"options of a type that a chain file cannot hold: {told(error)}"
        ) from error
