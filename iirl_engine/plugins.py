"""Which plugins are installed, which of them loaded, and why the others did not.

A plugin is a distribution with an entry point in the group `iirl_engine`. Each is loaded in
isolation: whatever goes wrong in one is its own status and reason, and the others work on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import attrs
import pluggy

from iirl_engine import hookspecs
from iirl_engine.errors import UsageError, did_you_mean
from iirl_engine.hookspecs import API, KINDS, LIFECYCLE, PROJECT
from iirl_engine.options import options_schema
from iirl_engine.records import Offer

T = TypeVar("T")

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
        limit = _import_limit()
        self.all = tuple(self._load(found, limit) for found in _installed())

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

    def _load(self, found: _Installed, limit: float) -> Plugin:
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
            module = _import(module_name, found.requires, limit)
            seconds = time.perf_counter() - started
            _check_api(module, name)
            self._register(module, name)
            offers = self._offers(name, limit)
        except _LoadError as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            return unusable(error.status, str(error), time.perf_counter() - started)
        return Plugin(
            name,
            found.version,
            "loaded",
            module=module_name,
            offers=offers,
            hooks=tuple(h for h in LIFECYCLE if any(d == name for d, _ in self.implementations(h))),
            seconds=seconds,
        )

    def _register(self, module: types.ModuleType, name: str) -> None:
        if owner := self._manager.get_name(module):
            raise _LoadError(f"its hook module {module.__name__} is that of {owner}")
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
            raise _LoadError(f"a hook does not fit its specification: {text}") from error
        known = (*(hook for hook, _ in KINDS.values()), *LIFECYCLE)
        for caller in callers:
            if caller.spec is None:
                hint = did_you_mean(caller.name, known)
                raise _LoadError(f"unknown hook {caller.name!r}; {hint or 'see the hook list'}")
            if any(
                i.plugin is module and (i.wrapper or i.hookwrapper) for i in caller.get_hookimpls()
            ):
                raise _LoadError(f"{caller.name} is a hook wrapper; these are not called")
        for attribute in functions:
            if not hasattr(getattr(module, attribute), f"{PROJECT}_impl"):
                raise _LoadError(f"function {attribute!r} is not marked with @hookimpl")

    def _offers(self, name: str, limit: float) -> dict[str, tuple[Offer, ...]]:
        offers: dict[str, tuple[Offer, ...]] = {}
        for kind, (hook, _) in KINDS.items():
            for dist, provide in self.implementations(hook):
                if dist == name:
                    before = offers.get(kind, ())
                    offers[kind] = before + _collect(hook, provide, before, limit)
        return {kind: found for kind, found in offers.items() if found}


def normalise(name: str) -> str:
    """Return a distribution name in its normal form: lower case, single hyphens."""
    return "-".join(
        filter(None, name.strip().lower().replace("_", "-").replace(".", "-").split("-"))
    )


class _LoadError(Exception):
    """Why a plugin cannot be used."""

    def __init__(self, reason: str, status: Status = "broken") -> None:
        super().__init__(reason)
        self.status = status


@attrs.frozen
class _Installed:
    """A plugin distribution as it lies on the disk; nothing of it is imported yet."""

    name: str
    version: str
    modules: tuple[str, ...]
    requires: tuple[str, ...] = ()
    damage: str = ""


def _installed() -> list[_Installed]:
    """Return every plugin distribution: core, first party, then by name."""
    found: dict[str, _Installed] = {}
    for dist in importlib.metadata.distributions():
        if installed := _read(dist):
            # The first on the path is the one that Python imports.
            found.setdefault(installed.name, installed)
    rank = {name: place for place, name in enumerate(FIRST_PARTY)}
    return [found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))]


def _read(dist: importlib.metadata.Distribution) -> _Installed | None:
    """Read a distribution's metadata; None when it is no plugin, whatever else is wrong with it."""
    text = dist.read_text("entry_points.txt") or ""
    if not re.search(rf"^\s*\[\s*{GROUP}\s*\]", text, re.MULTILINE):
        return None
    modules: tuple[str, ...] = ()
    damage = ""
    try:
        modules = tuple(point.value for point in dist.entry_points if point.group == GROUP)
    except Exception as error:
        damage = f"its entry_points.txt cannot be read: {_told(error)}"
    else:
        if not modules:
            return None
    metadata: Any = dist.metadata
    name, version = metadata.get("Name"), metadata.get("Version")
    if not name or not version:
        name = name or (modules[0].partition(".")[0] if modules else "unnamed")
        version = version or "unknown"
        damage = damage or "its METADATA has no name or no version; install it again"
    return _Installed(normalise(name), version, modules, tuple(dist.requires or ()), damage)


def _import_limit() -> float:
    """Return how many seconds a hook module may take to import."""
    text = os.environ.get("IIRL_IMPORT_LIMIT") or str(IMPORT_LIMIT_SECONDS)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < threading.TIMEOUT_MAX:
        raise UsageError(
            "IIRL_IMPORT_LIMIT is no number of seconds above 0",
            got=text,
            next_step="unset it, or set it to a number such as 5",
        )
    return limit


def _within_limit(task: Callable[[], T], limit: float, slow: str) -> T | _Raised:
    """Do a plugin's work in a thread of its own, so that one that hangs can be left behind.

    What it prints goes to stderr: stdout is for results.
    """
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(task())
        except BaseException as error:
            done.set_exception(error)

    with contextlib.redirect_stdout(sys.stderr):
        threading.Thread(target=work, name=slow, daemon=True).start()
        try:
            error = done.exception(limit)
        except TimeoutError:
            raise _LoadError(f"{slow} within {limit:g} s (IIRL_IMPORT_LIMIT)") from None
    return done.result() if error is None else _Raised(error)


@attrs.frozen
class _Raised:
    """What a plugin's code raised, be it `SystemExit`."""

    error: BaseException


def _import(module_name: str, requires: Iterable[str], limit: float) -> types.ModuleType:
    done = _within_limit(
        lambda: importlib.import_module(module_name),
        limit,
        f"slow import: a hook module imports nothing heavy; {module_name} was not imported",
    )
    if isinstance(done, _Raised):
        raise _LoadError(_import_reason(done.error, module_name, requires)) from done.error
    return done


def _import_reason(error: BaseException, module_name: str, requires: Iterable[str]) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{module_name}.".startswith(f"{error.name}."):
            return f"its entry point names the module {module_name!r}, which does not exist"
        missing = error.name.partition(".")[0]
        if importlib.util.find_spec(missing) is None:
            wanted = [r for r in requires if normalise(_required(r)) == normalise(missing)]
            if wanted:
                line = wanted[0].partition(";")[0].strip()
                return f"missing dependency: {line} is not installed; pip install {line!r}"
            return f"missing dependency: module {missing!r} is not installed"
    if isinstance(error, SyntaxError):
        return f"syntax error: {error.msg} ({error.filename}, line {error.lineno})"
    return f"import failed: {_told(error)}"


def _required(requirement: str) -> str:
    name = re.match(r"\s*[A-Za-z0-9._-]+", requirement)
    return name.group() if name else ""


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_api(module: types.ModuleType, name: str) -> None:
    api = vars(module).get("IIRL_API")
    if not isinstance(api, int) or isinstance(api, bool):
        raise _LoadError(f"{module.__name__} does not say IIRL_API = {API}")
    if api != API:
        upgrade = CORE if api > API else name
        raise _LoadError(
            f"written for plugin API {api}; this engine has API {API}; upgrade {upgrade}",
            "incompatible",
        )


def _by_keyword(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        try:
            return implementation.function(*(arguments[name] for name in implementation.argnames))
        except SystemExit as error:
            # A hook reports; whether the program ends is not for it to say.
            raise RuntimeError(f"sys.exit({error.code!r}) was called") from error

    return call


def _collect(
    hook: str, provide: Callable[[], Any], before: Iterable[Offer], limit: float
) -> tuple[Offer, ...]:
    """Call one provider and check what it yields."""
    taken = {offer.name for offer in before}

    def collect() -> tuple[Offer, ...]:
        offers = []
        for offer in provide():
            _check_offer(hook, offer, taken)
            taken.add(offer.name)
            offers.append(offer)
        return tuple(offers)

    done = _within_limit(collect, limit, f"{hook} did not answer")
    if isinstance(done, _Raised):
        if isinstance(done.error, _LoadError):
            raise done.error
        raise _LoadError(f"{hook} raised {_told(done.error)}") from done.error
    return done


def _check_offer(hook: str, offer: Any, taken: set[str]) -> None:
    if not isinstance(offer, Offer):
        raise _LoadError(f"{hook} yielded {offer!r}, which is no Offer")
    if not all(isinstance(text, str) for text in (offer.name, offer.target, offer.summary)):
        raise _LoadError(f"{hook} yielded {offer!r}, whose name, target or summary is no text")
    if offer.name in taken:
        raise _LoadError(f"{hook} offers the name {offer.name!r} twice")
    if not all(offer.target.partition(":")):
        raise _LoadError(
            f"{hook} offers {offer.name!r} with target {offer.target!r}; write package.module:Class"
        )
    if not (isinstance(offer.options, type) and attrs.has(offer.options)):
        raise _LoadError(f"{hook} offers {offer.name!r} with options that are no attrs class")
    try:
        json.dumps(options_schema(offer.options))
    except Exception as error:
        raise _LoadError(
            f"{hook} offers {offer.name!r} with options of a type that a chain file cannot hold: "
            + _told(error)
        ) from error
