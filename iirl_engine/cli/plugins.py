"""`iirl plugins` and `iirl schema`: what is installed, whether it works, what it takes."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from iirl_engine.errors import PluginError, UsageError
from iirl_engine.hookspecs import KINDS
from iirl_engine.plugins import Plugin, Plugins
from iirl_engine.registry import Entry, Registry

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def plugins() -> None:
    """List, show, check and pin plugins."""


@plugins.command("list", short_help="List installed plugins.")
@_json
def list_(as_json: bool) -> None:
    """List installed plugins: status, what they offer, and why some did not load."""
    found = Plugins()
    registry = Registry(found)
    if as_json:
        click.echo(json.dumps([_summary(p, registry) for p in found], indent=1))
        return
    for plugin in found:
        click.echo(f"{plugin.dist} {plugin.version}: {plugin.status}")
        if plugin.reason:
            click.echo(_wrapped(plugin.reason, "    ", "    "))
        for kind, offers in plugin.offers.items():
            names = ", ".join(_marked(registry, plugin, kind, o.name) for o in offers)
            click.echo(_wrapped(names, f"    {kind:<9} ", " " * 14))
        if plugin.hooks:
            click.echo(_wrapped(", ".join(plugin.hooks), f"    {'hooks':<9} ", " " * 14))


@plugins.command(short_help="Show a plugin or a strategy.")
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show one plugin, or one strategy with its options: NAME is a distribution or strategy."""
    found = Plugins()
    registry = Registry(found)
    plugin = found.get(name)
    entries = [
        entry
        for kind in KINDS
        for entry in registry.entries(kind)
        if (plugin is not None and entry.dist == plugin.dist)
        or name in (entry.offer.name, entry.qualified)
    ]
    if plugin is None and not entries:
        known = sorted({p.dist for p in found} | {e.offer.name for e in _all(registry)})
        raise UsageError("no plugin or strategy goes by this name", got=name, known=known)
    described: dict[str, Any] = _summary(plugin, registry) if plugin else {}
    described["strategies"] = [
        {
            "kind": e.kind,
            "name": e.qualified,
            "summary": e.offer.summary,
            "target": e.offer.target,
            **_options(e),
            **({"needs": _needs(e)} if e.kind == "refiner" else {}),
        }
        for e in entries
    ]
    if as_json:
        click.echo(json.dumps(described, indent=1))
        return
    if plugin:
        click.echo(f"{plugin.dist} {plugin.version}: {plugin.status}")
        if plugin.reason:
            click.echo(_wrapped(plugin.reason, "    ", "    "))
    for entry in entries:
        click.echo(_wrapped(f"{entry.kind} {entry.qualified}: {entry.offer.summary}", "", "    "))
        try:
            options = entry.offer.options
        except PluginError as error:
            click.echo(_wrapped(f"{error.what}: {error.got}", "    ", "    "))
            continue
        import attrs

        from iirl_engine.options import type_name

        if needs := _needs(entry):
            click.echo(_wrapped(f"needs {', '.join(needs)}", "    ", "    "))
        rows = []
        for field in attrs.fields(attrs.resolve_types(options)):
            default = "required" if field.default is attrs.NOTHING else f"default {field.default!r}"
            told = f"{field.metadata.get('help', '')} ({type_name(field.type)}, {default})"
            rows.append((field.name, told))
        _show_columns(rows)


@plugins.command(short_help="Check an installed plugin.")
@click.argument("name")
@_json
def check(name: str, as_json: bool) -> None:
    """Run the conformance kit on the installed plugin NAME, one line per check.

    A strategy with required options is built only in the plugin's own tests, where its author
    gives an example of them; here its checks are skipped. Exits with 5 when a check fails.
    """
    found = Plugins()
    plugin = found.get(name)
    if plugin is None:
        raise UsageError("no such plugin is installed", got=name, known=[p.dist for p in found])
    rows = []
    for what, verdict, reason in _verdicts(plugin):
        rows.append({"check": what, "verdict": verdict, "reason": reason})
        if not as_json:
            click.echo(f"{verdict:<6} {what}")
            if reason:
                click.echo(_wrapped(reason, "       ", "       "))
    passed = all(row["verdict"] != "failed" for row in rows)
    if as_json:
        click.echo(json.dumps({"plugin": plugin.dist, "ok": passed, "checks": rows}, indent=1))
    sys.exit(0 if passed else 5)


def _verdicts(plugin: Plugin) -> Iterator[tuple[str, str, str]]:
    """Yield (check, `ok`, `failed` or `skip`, reason) for each check."""
    if plugin.status != "loaded":
        yield f"plugin {plugin.dist}: loads", "failed", f"{plugin.status}: {plugin.reason}"
        return
    from iirl_engine.testing.kit import CheckFailed, NotApplicable, checks

    yield f"plugin {plugin.dist}: loads", "ok", ""
    for one in checks(plugin.dist):
        try:
            one()
            yield str(one), "ok", ""
        except CheckFailed as failed:
            yield str(one), "failed", str(failed)
        except NotApplicable as reason:
            yield str(one), "skip", str(reason)


@plugins.command(short_help="Print pinned requirements.")
@_json
def freeze(as_json: bool) -> None:
    """Print the loaded plugins as pinned requirements, for `pip install -r`."""
    pins = [(plugin.dist, plugin.version) for plugin in Plugins().loaded]
    if as_json:
        rows = [{"dist": dist, "version": version} for dist, version in pins]
        click.echo(json.dumps(rows, indent=1))
        return
    for dist, version in pins:
        click.echo(f"{dist}=={version}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of chain files that use the installed plugins."""
    from iirl_engine.schema import chain_schema

    click.echo(json.dumps(chain_schema(Registry(Plugins())), indent=1))


def _all(registry: Registry) -> list[Any]:
    return [entry for kind in KINDS for entry in registry.entries(kind)]


def _options(entry: Entry) -> dict[str, Any]:
    """Return the JSON Schema of an offer's options, or why there is none."""
    from iirl_engine.options import options_schema

    try:
        return {"options": options_schema(entry.offer.options)}
    except PluginError as error:
        return {"options": None, "reason": f"{error.what}: {error.got}"}


def _needs(entry: Entry) -> list[str]:
    """Return what a refiner needs of a reward; nothing when it cannot be loaded to be asked."""
    if entry.kind != "refiner":
        return []
    try:
        return sorted(entry.load().needs)
    except PluginError:
        return []


def _summary(plugin: Plugin, registry: Registry) -> dict[str, Any]:
    return {
        "dist": plugin.dist,
        "version": plugin.version,
        "status": plugin.status,
        "reason": plugin.reason,
        "module": plugin.module,
        "import_seconds": round(plugin.seconds, 4),
        "offers": {
            kind: [
                {
                    "name": offer.name,
                    "summary": offer.summary,
                    "shadowed_by": _shadow(registry, plugin, kind, offer.name),
                }
                for offer in offers
            ]
            for kind, offers in plugin.offers.items()
        },
        "hooks": list(plugin.hooks),
    }


def _shadow(registry: Registry, plugin: Plugin, kind: str, name: str) -> str:
    entry = next(
        e for e in registry.entries(kind) if e.dist == plugin.dist and e.offer.name == name
    )
    return registry.shadowed_by(entry)


def _marked(registry: Registry, plugin: Plugin, kind: str, name: str) -> str:
    shadow = _shadow(registry, plugin, kind, name)
    return f"{name} (shadowed by {shadow})" if shadow else name


def _show_columns(rows: list[tuple[str, str]]) -> None:
    if rows:
        columns = click.HelpFormatter(width=80)
        with columns.indentation(), columns.indentation():
            columns.write_dl(rows)
        click.echo(columns.getvalue(), nl=False)


def _wrapped(text: str, first: str, rest: str) -> str:
    """Wrap lines; a name or path with hyphens stays whole, so that it can be copied."""
    return textwrap.fill(
        text,
        80,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
