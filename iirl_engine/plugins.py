"""Which plugins are installed, which of them loaded, and why the others did not.

A plugin is a distribution with an entry point in the group `iirl_engine`. Each is loaded in
isolation: whatever goes wrong in one is its own status and reason, and the others work on.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import attrs
import pluggy

from iirl_engine import hookspecs
from iirl_engine.errors import did_you_mean
from iirl_engine.hookspecs import API, KINDS, LIFECYCLE, PROJECT
from iirl_engine.records import Offer

GROUP = "iirl_engine"
CORE = "iirl-engine"
FIRST_PARTY = (CORE, "iirl-encoders", "iirl-auditors", "iirl-refiners", "iirl-gym")
IMPORT_LIMIT_SECONDS = 5.0

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
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.all = tuple(self._load(*found) for found in _installed())

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
        """Yield (distribution, function taking the hook's arguments by keyword) one by one."""
        for implementation in self._manager.hook.__dict__[hook].get_hookimpls():
            yield implementation.plugin_name, _by_keyword(implementation)

    def _load(self, dist: importlib.metadata.Distribution, module_names: list[str]) -> Plugin:
        name, version = normalise(dist.name), dist.version
        module_name = ", ".join(module_names)

        def unusable(status: Status, reason: str, seconds: float = 0.0) -> Plugin:
            return Plugin(name, version, status, reason, module_name, seconds=seconds)

        if name in self.disabled and name != CORE:
            return unusable("disabled", "disabled by configuration")
        if len(module_names) != 1:
            return unusable("broken", "has more than one entry point in the group iirl_engine")
        started = time.perf_counter()
        try:
            module = _import_within_limit(module_name)
        except _LoadError as error:
            return unusable("broken", str(error), time.perf_counter() - started)
        except BaseException as error:
            reason = _import_reason(error, dist)
            return unusable("broken", reason, time.perf_counter() - started)
        seconds = time.perf_counter() - started
        api = getattr(module, "IIRL_API", None)
        if not isinstance(api, int) or isinstance(api, bool):
            return unusable("broken", f"{module_name} does not say IIRL_API = {API}", seconds)
        if api != API:
            return unusable(
                "incompatible",
                f"written for plugin API {api}; this engine has API {API}; "
                + ("upgrade iirl-engine" if api > API else f"upgrade {name}"),
                seconds,
            )
        try:
            self._register(module, name)
            return Plugin(
                name,
                version,
                "loaded",
                module=module_name,
                offers=self._offers(name),
                hooks=tuple(h for h in LIFECYCLE if self._implements(name, h)),
                seconds=seconds,
            )
        except _LoadError as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            return unusable("broken", str(error), seconds)

    def _register(self, module: types.ModuleType, name: str) -> None:
        try:
            self._manager.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            text = " ".join(str(error).split())
            raise _LoadError(f"a hook does not fit its specification: {text}") from error
        known = (*(hook for hook, _ in KINDS.values()), *LIFECYCLE)
        for caller in self._manager.get_hookcallers(module) or ():
            if caller.spec is None:
                hint = did_you_mean(caller.name, known)
                raise _LoadError(f"unknown hook {caller.name!r}; {hint or 'see the hook list'}")
        for attribute, value in vars(module).items():
            if attribute.startswith("iirl_") and isinstance(value, types.FunctionType):
                if not hasattr(value, f"{PROJECT}_impl"):
                    raise _LoadError(f"function {attribute!r} is not marked with @hookimpl")

    def _implements(self, name: str, hook: str) -> bool:
        return any(dist == name for dist, _ in self.implementations(hook))

    def _offers(self, name: str) -> dict[str, tuple[Offer, ...]]:
        offers: dict[str, tuple[Offer, ...]] = {}
        for kind, (hook, _) in KINDS.items():
            for dist, provide in self.implementations(hook):
                if dist == name:
                    offers[kind] = _collect(hook, provide)
        return {kind: found for kind, found in offers.items() if found}


def normalise(name: str) -> str:
    """Return a distribution name in its normal form: lower case, single hyphens."""
    return "-".join(
        filter(None, name.strip().lower().replace("_", "-").replace(".", "-").split("-"))
    )


class _LoadError(Exception):
    """Why a plugin cannot be used."""


def _installed() -> list[tuple[importlib.metadata.Distribution, list[str]]]:
    """Return every plugin distribution with its hook modules: core, first party, then by name."""
    found: dict[str, tuple[importlib.metadata.Distribution, list[str]]] = {}
    for dist in importlib.metadata.distributions():
        modules = [point.value for point in dist.entry_points if point.group == GROUP]
        if modules:
            found.setdefault(normalise(dist.name), (dist, modules))
    rank = {name: place for place, name in enumerate(FIRST_PARTY)}
    return [found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))]


def _import_within_limit(module_name: str) -> types.ModuleType:
    """Import a hook module in a thread of its own, so that one that hangs can be left behind."""
    limit = float(os.environ.get("IIRL_IMPORT_LIMIT", IMPORT_LIMIT_SECONDS))
    outcome: list[types.ModuleType | BaseException] = []

    def import_module() -> None:
        try:
            outcome.append(importlib.import_module(module_name))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=import_module, name=f"import {module_name}", daemon=True)
    thread.start()
    thread.join(limit)
    if not outcome:
        raise _LoadError(
            f"slow import: {module_name} was not imported within {limit:g} s; a hook module "
            "imports nothing heavy (IIRL_IMPORT_LIMIT sets the limit)"
        )
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _import_reason(error: BaseException, dist: importlib.metadata.Distribution) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.partition(".")[0]
        wanted = [r for r in dist.requires or () if normalise(r).startswith(normalise(missing))]
        return f"missing dependency: {wanted[0] if wanted else missing} is not installed"
    if isinstance(error, SyntaxError):
        return f"syntax error: {error.msg} ({error.filename}, line {error.lineno})"
    return f"import failed: {type(error).__name__}: {error}"


def _by_keyword(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return implementation.function(*(arguments[name] for name in implementation.argnames))

    return call


def _collect(hook: str, provide: Callable[[], Any]) -> tuple[Offer, ...]:
    """Call one provider and check what it yields."""
    try:
        offers = list(provide())
    except BaseException as error:
        raise _LoadError(f"{hook} raised {type(error).__name__}: {error}") from error
    names = set()
    for offer in offers:
        if not isinstance(offer, Offer):
            raise _LoadError(f"{hook} yielded {offer!r}, which is no Offer")
        if offer.name in names:
            raise _LoadError(f"{hook} offers the name {offer.name!r} twice")
        if not (isinstance(offer.options, type) and attrs.has(offer.options)):
            raise _LoadError(f"{hook} offers {offer.name!r} with options that are no attrs class")
        names.add(offer.name)
    return tuple(offers)
