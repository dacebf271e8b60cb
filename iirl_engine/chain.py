"""What a chain file says: read, override, check with every problem at once, dump.

Checking imports the plugins' hook modules and their option classes, nothing heavier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from iirl_engine.chain_file import DEFAULTS, ID, MANY, REQUIRED, SINGLE, Box, Settings, read_toml
from iirl_engine.errors import ChainError, Problem, did_you_mean
from iirl_engine.options import (
    build_options,
    described,
    dump_options,
    key_text,
    members_of,
)
from iirl_engine.overrides import apply
from iirl_engine.plugins import Plugins
from iirl_engine.records import Domain
from iirl_engine.registry import Entry, Registry, UnknownStrategy


@attrs.frozen
class Step:
    """One strategy of a chain: its id, what it is, and its checked options."""

    id: str
    entry: Entry
    options: Any

    def build(self) -> Any:
        """Import and build the strategy."""
        return self.entry.build(self.options)


@attrs.frozen
class Reporting:
    """What a report tells of a chain, which can be known without most of its plugins.

    Parameters
    ----------
    floor
        Reward above this is an endorsement.
    reports
        The reporters.
    plugins
        (distribution, version) of every plugin that took part.
    text
        The effective chain file.
    hooks
        The plugins that are there now.
    missing
        Of those that took part, what has become of the ones that are not, one sentence each.
    """

    floor: float
    reports: tuple[Step, ...]
    plugins: tuple[tuple[str, str], ...]
    text: str
    hooks: Plugins
    missing: tuple[str, ...] = ()


@attrs.frozen
class Chain:
    """A checked chain, ready to be built."""

    path: Path
    settings: Settings
    domain: Domain | None
    source: Step
    encoder: Step
    mapping: Step
    schedule: Step
    triage: Step
    executor: Step
    norms: tuple[Step, ...]
    audits: tuple[Step, ...]
    refines: tuple[Step, ...]
    gates: tuple[Step, ...]
    reports: tuple[Step, ...]
    registry: Registry = attrs.field(eq=False, repr=False)

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        """(table name, step) for each strategy, in the order of the file format."""
        single = [(table, getattr(self, table)) for table in SINGLE]
        many = [(table, step) for table in MANY for step in getattr(self, f"{table}s")]
        return (*single, *many)

    @property
    def plugins(self) -> tuple[tuple[str, str], ...]:
        """(distribution, version) of every plugin that takes part, sorted.

        Those are the plugins that the chain names, and those whose lifecycle hooks are called.
        """
        named = {(step.entry.dist, step.entry.version) for _, step in self.steps}
        called = {(p.dist, p.version) for p in self.registry.plugins.loaded if p.hooks}
        return tuple(sorted(named | called))

    @property
    def reporting(self) -> Reporting:
        """What a report tells of it."""
        hooks = self.registry.plugins
        return Reporting(self.settings.floor, self.reports, self.plugins, self.dump(), hooks)

    def dump(self) -> str:
        """Return the effective chain as TOML: qualified names, pinned versions, all options."""
        import tomli_w

        pins = {f"{dist}=={version}" for dist, version in self.plugins}
        required = sorted(pins.union(self.settings.require))
        table: dict[str, Any] = {"flywheel": dump_options(self.settings) | {"require": required}}
        if self.domain is not None:
            table["domain"] = {"low": list(self.domain.low), "high": list(self.domain.high)}
        # An empty array is written too: left out, it would mean the default.
        table |= {name: [] for name in MANY if not getattr(self, f"{name}s")}
        for name, step in self.steps:
            body = {"use": step.entry.qualified, "id": step.id} | dump_options(step.options)
            if name in SINGLE:
                table[name] = body
            else:
                table.setdefault(name, []).append(body)
        return tomli_w.dumps(table)


def read_chain(
    path: str | Path, *, overrides: Sequence[str] = (), disable: Iterable[str] = ()
) -> Chain:
    """Read and check a chain file.

    Parameters
    ----------
    path
        The TOML file.
    overrides
        `"audit.pgd-tight.steps=80"`: table, id where the table is an array, option, TOML value.
    disable
        Plugin distributions not to import, besides those the file disables.

    Raises
    ------
    UsageError
        When the file cannot be read or an override cannot be understood.
    ChainError
        With every problem of the file.
    """
    file = Path(path)
    table = read_toml(file)
    for override in overrides:
        apply(table, override)
    in_file = _strings(table.get("flywheel"), "disable")
    return check_chain(table, Registry(Plugins([*disable, *in_file])), file)


def read_reporting(path: Path) -> Reporting:
    """Read what reports need of an effective chain file, whatever has become of its plugins.

    Raises
    ------
    UsageError
        When the file cannot be read.
    ChainError
        When it names reporters and none of them is available, or what it says of them is wrong.
    """
    text = path.read_text()
    table = read_toml(path)
    flywheel = table.get("flywheel")
    required = _strings(flywheel, "require")
    registry = Registry(Plugins(_strings(flywheel, "disable")))
    problems: list[Problem] = []
    if isinstance(flywheel, dict):  # what is required was there; now it is only told
        flywheel = {name: value for name, value in flywheel.items() if name != "require"}
    settings = _settings(flywheel or {}, registry, path.parent, problems)
    tables = table.get("report", [])
    if isinstance(tables, list):
        # With none left, each is told as a problem.
        tables = [step for step in tables if _is_there("reporter", step, registry)] or tables
    steps = _Checker(registry, path.parent, problems).many("report", tables)
    if problems or settings is None:
        raise ChainError(problems, where=path)
    return Reporting(
        floor=settings.floor,
        reports=tuple(step for step in steps if step is not None),
        plugins=_pinned(required),
        text=text,
        hooks=registry.plugins,
        missing=tuple(gone[0] for pin in required if (gone := _unmet(pin, registry))),
    )


def check_chain(table: Mapping[str, Any], registry: Registry, file: Path) -> Chain:
    """Turn the tables of a chain file into a `Chain`, or raise all its problems at once."""
    problems: list[Problem] = []
    known = ("flywheel", "domain", *SINGLE, *MANY)
    for name in table:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            problems.append(Problem(key_text(name), "unknown table", hint))
    for name in REQUIRED:
        if name not in table or table[name] == []:
            header = f"[{name}]" if name in SINGLE else f"[[{name}]]"
            names = _names(registry, SINGLE.get(name) or MANY[name])
            problems.append(Problem(name, "missing", f"add {header} with use = {names}"))
    settings = _settings(table.get("flywheel", {}), registry, file.parent, problems)
    checker = _Checker(registry, file.parent, problems)
    domain = _domain(table.get("domain"), problems)
    written = DEFAULTS | dict(table)
    single: dict[str, Any] = {n: checker.one(n, written[n]) for n in SINGLE if n in written}
    many: dict[str, Any] = {f"{n}s": checker.many(n, written.get(n, [])) for n in MANY}
    if problems or settings is None:
        raise ChainError(problems, where=file)
    return Chain(path=file, settings=settings, domain=domain, registry=registry, **single, **many)


class _Checker:
    """Checks the tables that name a strategy."""

    def __init__(self, registry: Registry, folder: Path, problems: list[Problem]) -> None:
        self.registry = registry
        self.folder = folder
        self.problems = problems

    def one(self, name: str, table: Any) -> Step | None:
        if not isinstance(table, dict):
            self.problems.append(_no_table(name, table))
            return None
        return self._step(SINGLE[name], table, name)

    def many(self, name: str, tables: Any) -> tuple[Step | None, ...]:
        if not isinstance(tables, list):
            hint = f"write [[{name}]], with two brackets; there may be several"
            message = f"expected an array of tables, got {described(tables)}"
            self.problems.append(Problem(name, message, hint))
            return ()
        steps: list[Step | None] = []
        taken: dict[str, str] = {}
        for index, table in enumerate(tables):
            path = f"{name}[{index}]"
            if not isinstance(table, dict):
                hint = f"write [[{name}]] and below it the options of one {MANY[name]}"
                message = f"expected a table, got {described(table)}"
                self.problems.append(Problem(path, message, hint))
                continue
            steps.append(self._step(MANY[name], table, path))
            use = table.get("use")
            own = table.get("id", use.rpartition(":")[2] if isinstance(use, str) else None)
            if isinstance(own, str) and own in taken:
                message = f"the id {own!r} is taken by {taken[own]}"
                self.problems.append(
                    Problem(f"{path}.id", message, f'give it its own, such as id = "{own}-2"')
                )
            elif isinstance(own, str):
                taken[own] = path
        self._members(name, steps)
        return tuple(steps)

    def _members(self, table: str, steps: Sequence[Step | None]) -> None:
        """Check the steps that run under another one of their table."""
        leaders: dict[str, str] = {}
        there = {index: step for index, step in enumerate(steps) if step is not None}
        leading = {step.id for step in there.values() if any(members_of(step.options))}
        ids = [step.id for step in there.values() if step.id not in leading]
        for index, step in there.items():
            for place, name in members_of(step.options):
                path = f"{table}[{index}].{place}"
                if name not in ids:
                    kind = "leads others itself" if name in leading else "is the id of none"
                    message = f"must name another [[{table}]] step: {name!r} {kind}"
                    hint = did_you_mean(name, ids) or f"known: {', '.join(ids) or 'none'}"
                    self.problems.append(Problem(path, message, hint))
                elif name in leaders:
                    message = f"must not name {name!r} again: it runs under {leaders[name]} already"
                    self.problems.append(Problem(path, message, "name each step once"))
                leaders.setdefault(name, step.id)

    def _step(self, kind: str, table: dict[str, Any], path: str) -> Step | None:
        use, given = table.get("use"), table.get("id")
        if not isinstance(use, str):
            message = "missing" if use is None else f"expected string, got {described(use)}"
            hint = f"write use = {_names(self.registry, kind)}"
            self.problems.append(Problem(f"{path}.use", message, hint))
        if given is not None and not (isinstance(given, str) and re.fullmatch(ID, given)):
            message = f"expected letters, digits, - and _, got {described(given)}"
            hint = 'an id names its step in reports and for --set; write for example "pgd-2"'
            self.problems.append(Problem(f"{path}.id", message, hint))
        if not isinstance(use, str):
            return None
        try:
            entry = self.registry.find(kind, use)
        except UnknownStrategy as error:
            self.problems.append(Problem(f"{path}.use", error.message, error.hint))
            return None
        body = {key: value for key, value in table.items() if key not in ("use", "id")}
        options = build_options(entry.offer.options, body, path, self.problems, self.folder)
        if options is None:
            return None
        return Step(given if isinstance(given, str) else entry.offer.name, entry, options)


def _names(registry: Registry, kind: str) -> str:
    """Return the names of a kind's strategies, as alternatives."""
    names = sorted({f'"{entry.offer.name}"' for entry in registry.entries(kind)})
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "a strategy's name"


def _no_table(name: str, got: object) -> Problem:
    hint = f"write [{name}], with one bracket" if isinstance(got, list) else ""
    hint = hint or f"write [{name}] and below it its options"
    return Problem(name, f"expected one table, got {described(got)}", hint)


def _settings(
    table: Any, registry: Registry, folder: Path, problems: list[Problem]
) -> Settings | None:
    if not isinstance(table, dict):
        problems.append(_no_table("flywheel", table))
        return None
    if table.get("approval") in ("advised", "human"):
        message = f"{table['approval']!r} is not available in this version"
        hint = 'write "auto": the norms and gates alone decide'
        problems.append(Problem("flywheel.approval", message, hint))
        table = {key: value for key, value in table.items() if key != "approval"}
    settings = build_options(Settings, table, "flywheel", problems, folder)
    required = table.get("require", [])
    for index, requirement in enumerate(required if isinstance(required, list) else []):
        if isinstance(requirement, str) and (missing := _unmet(requirement, registry)):
            problems.append(Problem(f"flywheel.require[{index}]", *missing))
    return settings


def _unmet(requirement: str, registry: Registry) -> tuple[str, str] | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return f"{requirement!r} is no requirement", 'write for example "acme-audit>=2"'
    plugin = registry.plugins.get(wanted.name)
    if plugin is None:
        return f"plugin {wanted.name!r} is not installed", f"pip install {requirement!r}"
    if plugin.status != "loaded":
        hint = f"see: iirl plugins show {plugin.dist}"
        return f"plugin {plugin.dist!r} is {plugin.status}: {plugin.reason}", hint
    if not wanted.specifier.contains(plugin.version, prereleases=True):
        installed = f"plugin {plugin.dist!r} is installed in version {plugin.version}"
        return f"{installed}, not {wanted.specifier}", f"pip install {requirement!r}"
    return None


def _pinned(required: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (distribution, version) of the requirements that an effective chain pins."""
    pins = (requirement.partition("==") for requirement in required)
    return tuple((dist, version) for dist, equals, version in pins if equals)


def _is_there(kind: str, table: Any, registry: Registry) -> bool:
    """Say whether a table names a strategy that is available; nonsense counts, to be told."""
    use = table.get("use") if isinstance(table, dict) else None
    if not isinstance(use, str):
        return True
    try:
        registry.find(kind, use)
    except UnknownStrategy:
        return False
    return True


def _strings(table: Any, name: str) -> list[str]:
    listed = table.get(name) if isinstance(table, dict) else None
    return [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []


def _domain(table: Any, problems: list[Problem]) -> Domain | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        problems.append(_no_table("domain", table))
        return None
    domain = build_options(Box, table, "domain", problems, Path())
    return Domain(domain.low, domain.high) if domain else None
