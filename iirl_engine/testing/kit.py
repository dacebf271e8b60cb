"""Which checks a plugin has to pass, and how they are run."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from iirl_engine.api import Context
from iirl_engine.errors import PluginError, Problem, UsageError
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugin, Plugins
from iirl_engine.registry import Entry, Registry


class CheckFailed(AssertionError):
    """A check's verdict on a plugin: what was expected, and what happened."""


class NotApplicable(Exception):
    """Why a check cannot be made, such as options that only the author can choose."""


class RuledOut(NotApplicable, unittest.SkipTest):
    """A check that the plugin's own declarations rule out; pytest skips it."""


@attrs.frozen
class Subject:
    """One offer under test.

    Parameters
    ----------
    plugin, entry
        Who offers what.
    example
        Options, as in a chain file, to build it with when the defaults do not do.
    seen
        What one check made of the offer and others look at too, by name.
    """

    plugin: Plugin
    entry: Entry
    example: Mapping[str, Any] | None = None
    seen: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    def options(self) -> Any:
        """Return the example's options, or the defaults."""
        problems: list[Problem] = []
        table = dict(self.example or {})
        options = build_options(self.options_class(), table, "example", problems, None)
        if options is None and self.example is None:
            needed = ", ".join(p.path.partition(".")[2] for p in problems)
            raise NotApplicable(f"give an example of its options: {needed}")
        if options is None:
            raise CheckFailed("; ".join(map(str, problems)))
        return options

    def options_class(self) -> type[Any]:
        """Return the class of the offer's options."""
        try:
            return self.entry.offer.options
        except PluginError as error:
            # As with the target: one check says so.
            raise NotApplicable("its options cannot be imported") from error

    def target(self) -> Any:
        """Return the offer's class."""
        try:
            return self.entry.load()
        except PluginError as error:
            # That it cannot be loaded is the verdict of one check, not of every check.
            raise NotApplicable("its target cannot be loaded") from error

    def build(self, **changes: Any) -> Any:
        """Return a new strategy, some of its options changed."""
        self.target()
        return self.entry.build(attrs.evolve(self.options(), **changes))

    def context(self, seed: int = 0, round: int = 1) -> Context:
        """Return the context of a run."""
        return Context(self.entry.kind, self.entry.offer.name, seed, round)


@attrs.frozen
class Check:
    """One check of one offer; calling it raises `CheckFailed` when the offer fails it."""

    about: str
    name: str
    function: Callable[[], None] = attrs.field(repr=False)

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        CheckFailed
            When the offer fails it, or raises while it is checked.
        NotApplicable
            When it cannot be made.
        """
        try:
            self.function()
        except (CheckFailed, NotApplicable):
            raise
        except Exception as error:
            raise CheckFailed(f"{self}: raised {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return f"{self.about}: {self.name}"


_OF_PLUGINS: list[tuple[str, Callable[[Plugin], None]]] = []
_OF_OFFERS: list[tuple[str, str, Callable[[Subject], None]]] = []


def plugin_check(function: Callable[[Plugin], None]) -> Callable[[Plugin], None]:
    """Register a check of every plugin, whatever it offers."""
    _OF_PLUGINS.append((_name(function), function))
    return function


def check(kind: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a check of every offer of a kind, or of `any` kind; its name is the function's."""

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        _OF_OFFERS.append((kind, _name(function), function))
        return function

    return register


def _name(function: Callable[..., None]) -> str:
    return function.__name__.replace("_", "-")


def require(holds: object, said: str) -> None:
    """Raise `CheckFailed(said)` unless it holds."""
    if not holds:
        raise CheckFailed(said)


def checks(
    plugin: str, *, examples: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Check]:
    """Yield every check that an installed plugin has to pass.

    Parameters
    ----------
    plugin
        Name of its distribution.
    examples
        Options for strategies that need some, as in a chain file, by name or `"kind name"`:
        `{"box": {"features": ["x0"], "low": [0.0], "high": [1.0]}}`.

    Raises
    ------
    UsageError
        When the plugin is not installed, or did not load.
    """
    from iirl_engine.testing import suite as _registering

    assert _registering
    found = Plugins()
    known = found.get(plugin)
    if known is None:
        raise UsageError("no such plugin is installed", got=plugin, known=[p.dist for p in found])
    if known.status != "loaded":
        raise UsageError(f"plugin {known.dist} is {known.status}", got=known.reason)
    for name, of_plugin in _OF_PLUGINS:
        yield Check(f"plugin {known.dist}", name, functools.partial(of_plugin, known))
    given = dict(examples or {})
    registry = Registry(found)
    for kind in known.offers:
        for entry in registry.entries(kind):
            if entry.dist != known.dist:
                continue
            name = entry.offer.name
            subject = Subject(known, entry, given.get(f"{kind} {name}", given.get(name)))
            for of_kind, check_name, function in _OF_OFFERS:
                if of_kind == kind or (of_kind == "any" and kind != "command"):
                    run = functools.partial(function, subject)
                    yield Check(f"{kind} {name}", check_name, run)


def conformance(
    plugin: str,
    *,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Return a pytest decorator that runs a test once per check.

    Parameters
    ----------
    plugin, examples
        As for `checks`.
    expected_failures
        Name of a check as it is printed -> why it fails. A failure that is expected and does
        not come fails the test.
    """
    import pytest

    reasons = dict(expected_failures or {})
    parameters = []
    for one in checks(plugin, examples=examples):
        reason = reasons.pop(str(one), None)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        parameters.append(pytest.param(one, id=str(one), marks=marks))
    if reasons:
        raise UsageError("expected failures of no check", got=", ".join(reasons))
    return pytest.mark.parametrize("check", parameters)
