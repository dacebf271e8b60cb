"""Which strategy a name means: (kind, name) -> offer, with hints when there is no one answer."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import attrs

from iirl_engine.errors import PluginError, did_you_mean, told
from iirl_engine.hookspecs import KINDS
from iirl_engine.installed import normalise
from iirl_engine.offer import Offer
from iirl_engine.plugins import FIRST_PARTY, Plugin, Plugins


@attrs.frozen
class Entry:
    """An offer and who makes it."""

    kind: str
    dist: str
    version: str
    offer: Offer

    @property
    def qualified(self) -> str:
        """`distribution:name`, which is never ambiguous."""
        return f"{self.dist}:{self.offer.name}"

    def load(self) -> Any:
        """Import the target and check that it fits its kind.

        Raises
        ------
        PluginError
            When the target cannot be imported or is no strategy of this kind.
        """
        base = _attribute(KINDS[self.kind][1])
        try:
            target = _attribute(self.offer.target)
        except (Exception, SystemExit) as error:
            raise self._failed("cannot be imported", told(error)) from error
        # A command is an object of click; every other kind is a class that options build.
        is_class = isinstance(target, type) and issubclass(target, base)
        if not (isinstance(target, base) if self.kind == "command" else is_class):
            raise self._failed(f"is no {KINDS[self.kind][1]}", repr(target))
        if inspect.isabstract(target):
            missing = ", ".join(sorted(target.__abstractmethods__))
            raise self._failed(f"does not implement {missing}", repr(target))
        return target

    def build(self, options: Any) -> Any:
        """Return the strategy, built from its options."""
        target = self.load()
        try:
            return target(options)
        except (Exception, SystemExit) as error:
            raise self._failed("cannot be built", told(error)) from error

    def _failed(self, how: str, got: str) -> PluginError:
        return PluginError(
            f"{self.kind} {self.qualified} {how}",
            where=self.offer.target,
            got=got,
            next_step=f"iirl plugins check {self.dist}",
        )


class UnknownStrategy(LookupError):
    """No single strategy goes by this name; `message` says so and `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Registry:
    """Finds strategies by bare or qualified name.

    A bare name works while it is unambiguous. The core's and first-party names win a clash;
    two strangers who clash must be named in full.
    """

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._entries = [
            Entry(kind, plugin.dist, plugin.version, offer)
            for plugin in plugins.loaded
            for kind, offers in plugin.offers.items()
            for offer in offers
        ]

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries of a kind: core, first party, then by distribution name."""
        return (e for e in self._entries if e.kind == kind)

    def find(self, kind: str, name: str) -> Entry:
        """Return the one entry that `name` means.

        Raises
        ------
        UnknownStrategy
            When there is none, or more than one.
        """
        dist, _, bare = name.rpartition(":")
        matches = [e for e in self.entries(kind) if e.offer.name == bare]
        if dist:
            matches = [e for e in matches if e.dist == normalise(dist)]
        if len(matches) > 1 and matches[0].dist not in FIRST_PARTY:
            raise UnknownStrategy(
                f"{kind} {name!r} is ambiguous",
                "write one of " + ", ".join(repr(e.qualified) for e in matches),
            )
        if matches:
            return matches[0]
        raise self._unknown(kind, dist, name)

    def shadowed_by(self, entry: Entry) -> str:
        """Return the distribution whose entry wins the bare name over this one, or nothing."""
        first = next(e for e in self.entries(entry.kind) if e.offer.name == entry.offer.name)
        return first.dist if first is not entry and first.dist in FIRST_PARTY else ""

    def _unknown(self, kind: str, dist: str, name: str) -> UnknownStrategy:
        if dist and (plugin := self.plugins.get(dist)) and plugin.status != "loaded":
            return UnknownStrategy(
                f"{kind} {name!r} is not available: {_state(plugin)}",
                f"see: iirl plugins show {plugin.dist}",
            )
        if dist and self.plugins.get(dist) is None:
            return UnknownStrategy(
                f"no {kind} {name!r}: the plugin {dist!r} is not installed",
                f"install it into this environment: pip install {normalise(dist)}",
            )
        if dist:
            own = [e.offer.name for e in self.entries(kind) if e.dist == normalise(dist)]
            hint = did_you_mean(name.rpartition(":")[2], own)
            return UnknownStrategy(
                f"the plugin {normalise(dist)!r} offers no {kind} {name.rpartition(':')[2]!r}",
                hint or f"see: iirl plugins show {normalise(dist)}",
            )
        known = sorted({e.offer.name for e in self.entries(kind)})
        offering = _known_plugin(kind, name)
        if offering and self.plugins.get(offering) is None:
            hint = f"{offering} offers it: pip install {offering}"
        elif not (hint := did_you_mean(name, known)):
            listed = ", ".join(known) or "none"
            hint = f"known: {listed}; or install the plugin that offers it"
        unavailable = [p for p in self.plugins if p.status != "loaded"]
        if unavailable:
            states = "; ".join(map(_state, unavailable))
            hint += f"\n      a plugin that is not loaded may offer it: {states}"
        return UnknownStrategy(f"no {kind} {name!r} among the installed plugins", hint)


def _state(plugin: Plugin) -> str:
    return f"{plugin.dist} is {plugin.status} ({plugin.reason})"


def _known_plugin(kind: str, name: str) -> str:
    """Return the distribution that is known to offer a strategy, or nothing."""
    import tomllib
    from pathlib import Path

    package = Path(__file__).parent
    # Packaged in a wheel, beside the package in a checkout.
    for folder in (package, package.parent / "contrib"):
        with contextlib.suppress(OSError, ValueError):
            known = tomllib.loads((folder / "known_plugins.toml").read_text(encoding="utf-8"))
            return str(known.get(kind, {}).get(name, ""))
    return ""


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
