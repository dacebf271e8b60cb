"""Which plugins are installed, which of them loaded, and why the others did not.

A plugin is a distribution with an entry point in the group `iirl_engine`. Each is loaded in
isolation: whatever goes wrong in one is its own status and reason, and the others work on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, Literal

import attrs
import pluggy

from iirl_engine import hookspecs
from iirl_engine.errors import did_you_mean, told
from iirl_engine.hookspecs import API, KINDS, LIFECYCLE, PROJECT
from iirl_engine.installed import Installed, installed, normalise
from iirl_engine.isolation import (
    Isolation,
    LoadError,
    Raised,
    import_hook_module,
    import_limit,
)
from iirl_engine.offer import Offer, check_options

CORE = "iirl-engine"
FIRST_PARTY = (
    CORE,
    "iirl-encoders",
    "iirl-auditors",
    "iirl-refiners",
    "iirl-certify",
    "iirl-gym",
    "iirl-export",
)

Status = Literal["loaded", "disabled", "incompatible", "broken"]


@attrs.frozen
class Plugin:
    """One installed plugin: what it is, whether it loaded, and what it offers.

    Parameters
    ----------
    dist
        Normalised name of its distribution.
    version
        Version of its distribution.
    status
        `loaded`, `disabled`, `incompatible` or `broken`.
    reason
        Why it did not load; empty otherwise.
    module
        Its hook module.
    offers
        Kind -> what it offers of that kind.
    hooks
        Names of the lifecycle hooks it implements.
    seconds
        Wall time that its hook module took to import.
    """

    dist: str
    version: str
    status: Status
    reason: str = ""
    module: str = ""
    offers: dict[str, tuple[Offer, ...]] = attrs.field(factory=dict)
    hooks: tuple[str, ...] = ()
    seconds: float = 0.0


class Plugins:
    """The installed plugins, loaded once, and the lifecycle hooks they implement.

    Parameters
    ----------
    disable
        Normalised distribution names that are not imported. `IIRL_DISABLE`, a comma-separated
        list in the environment, adds to them.
    """

    def __init__(self, disable: Iterable[str] = ()) -> None:
        from_environment = os.environ.get("IIRL_DISABLE", "").split(",")
        self.disabled = {normalise(n) for n in (*disable, *from_environment) if n.strip()}
        self._manager = _Manager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        with Isolation(import_limit()) as isolation:
            self.all = tuple(self._load(found, isolation) for found in installed(FIRST_PARTY))

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.all)

    @property
    def loaded(self) -> tuple[Plugin, ...]:
        """The plugins that work."""
        return tuple(p for p in self.all if p.status == "loaded")

    def get(self, dist: str) -> Plugin | None:
        """Return the plugin of this distribution, or None when none is installed."""
        return next((p for p in self.all if p.dist == normalise(dist)), None)

    def implementations(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Yield (distribution, function taking the hook's arguments by keyword) one by one.

        The order is that of the plugins, but for those marked `tryfirst` or `trylast`.
        """
        found = self._manager.hook.__dict__[hook].get_hookimpls()
        for implementation in sorted(found, key=lambda i: i.trylast - i.tryfirst):
            yield implementation.plugin_name, _by_keyword(implementation)

    def _load(self, found: Installed, isolation: Isolation) -> Plugin:
        name, module_name = found.name, ", ".join(found.modules)

        def unusable(status: Status, reason: str, seconds: float = 0.0) -> Plugin:
            return Plugin(name, found.version, status, reason, module_name, seconds=seconds)

        if name in self.disabled and name != CORE:
            return unusable("disabled", "disabled by configuration")
        if found.damage:
            return unusable("broken", found.damage)
        if len(found.modules) != 1:
            return unusable("broken", "has more than one entry point in the group iirl_engine")
        started = time.perf_counter()
        try:
            module = import_hook_module(module_name, found.requires, isolation)
            seconds = time.perf_counter() - started
            _check_api(module, name)
            hooks = self._register(module, name)
            offers = self._offers(name, hooks, isolation)
        except LoadError as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            return unusable(error.status, str(error), time.perf_counter() - started)
        return Plugin(
            name,
            found.version,
            "loaded",
            module=module_name,
            offers=offers,
            hooks=tuple(hook for hook in LIFECYCLE if hook in hooks),
            seconds=seconds,
        )

    def _register(self, module: types.ModuleType, name: str) -> set[str]:
        """Register a hook module and return the names of the hooks it implements."""
        if owner := self._manager.get_name(module):
            raise LoadError(f"its hook module {module.__name__} is that of {owner}")
        try:
            self._manager.register(module, name)
            callers = self._manager.get_hookcallers(module) or ()
            functions = [
                attribute
                for attribute, value in vars(module).items()
                if attribute.startswith("iirl_") and isinstance(value, types.FunctionType)
            ]
        except Exception as error:
            text = " ".join(str(error).split())
            raise LoadError(f"a hook does not fit its specification: {text}") from error
        known = (*(hook for hook, _ in KINDS.values()), *LIFECYCLE)
        for caller in callers:
            if caller.spec is None:
                hint = did_you_mean(caller.name, known)
                raise LoadError(f"unknown hook {caller.name!r}; {hint or 'see the hook list'}")
            if any(
                i.plugin is module and (i.wrapper or i.hookwrapper) for i in caller.get_hookimpls()
            ):
                raise LoadError(f"{caller.name} is a hook wrapper; these are not called")
        for attribute in functions:
            if not hasattr(getattr(module, attribute), f"{PROJECT}_impl"):
                raise LoadError(f"function {attribute!r} is not marked with @hookimpl")
        return {caller.name for caller in callers}

    def _offers(
        self, name: str, hooks: Container[str], isolation: Isolation
    ) -> dict[str, tuple[Offer, ...]]:
        """Ask the plugin's providers, all in one task: handing over each takes too long."""
        providers = [
            (kind, hook, provide)
            for kind, (hook, _) in KINDS.items()
            if hook in hooks
            for dist, provide in self.implementations(hook)
            if dist == name
        ]
        asked = ""
        offers: dict[str, tuple[Offer, ...]] = {}

        def ask() -> None:
            nonlocal asked
            for kind, asked, provide in providers:
                before = offers.get(kind, ())
                offers[kind] = before + _collect(asked, provide, before)

        if providers:
            done = isolation(ask, lambda: f"{asked} did not answer")
            if isinstance(done, Raised):
                raise done.error
        return {kind: found for kind, found in offers.items() if found}


class _Manager(pluggy.PluginManager):
    """Looks for hooks only among what can be called; pluggy looks at each name with care."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        if type(plugin) is types.ModuleType and not callable(vars(plugin).get(name)):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def _check_api(module: types.ModuleType, name: str) -> None:
    api = vars(module).get("IIRL_API")
    if not isinstance(api, int) or isinstance(api, bool):
        raise LoadError(f"{module.__name__} does not say IIRL_API = {API}")
    if api != API:
        upgrade = CORE if api > API else name
        raise LoadError(
            f"written for plugin API {api}; this engine has API {API}; upgrade {upgrade}",
            "incompatible",
        )


def _by_keyword(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        given = (arguments[name] for name in implementation.argnames)
        try:
            # What a hook prints is no result of ours.
            with contextlib.redirect_stdout(sys.stderr):
                return implementation.function(*given)
        except SystemExit as error:
            # A hook reports; whether the program ends is not for it to say.
            raise RuntimeError(f"sys.exit({error.code!r}) was called") from error

    return call


def _collect(hook: str, provide: Callable[[], Any], before: Iterable[Offer]) -> tuple[Offer, ...]:
    """Call one provider and check what it yields."""
    taken = {offer.name for offer in before}
    offers = []
    try:
        for offer in provide():
            _check_offer(hook, offer, taken)
            taken.add(offer.name)
            offers.append(offer)
    except LoadError:
        raise
    except BaseException as error:
        raise LoadError(f"{hook} raised {told(error)}") from error
    return tuple(offers)


def _check_offer(hook: str, offer: Any, taken: set[str]) -> None:
    if not isinstance(offer, Offer):
        raise LoadError(f"{hook} yielded {offer!r}, which is no Offer")
    if not all(isinstance(text, str) for text in (offer.name, offer.target, offer.summary)):
        raise LoadError(f"{hook} yielded {offer!r}, whose name, target or summary is no text")
    if offer.name in taken:
        raise LoadError(f"{hook} offers the name {offer.name!r} twice")
    if not all(offer.target.partition(":")):
        raise LoadError(
            f"{hook} offers {offer.name!r} with target {offer.target!r}; write package.module:Class"
        )
    if offer.options_at is not None:
        if not all(offer.options_at.partition(":")):
            raise LoadError(
                f"{hook} offers {offer.name!r} with options {offer.options_at!r}; "
                "write package.module:Class"
            )
        return
    try:
        check_options(offer.options)
    except TypeError as error:
        raise LoadError(f"{hook} offers {offer.name!r} with {error}") from error
