"""Sphinx extension: reference pages written from the installed code, so that they cannot drift.

At the start of a build it writes MyST fragments to `docs/_generated`, which pages include:
`flywheel.md` and `strategies.md` from option classes, `hooks.md` from hook specifications,
`commands.md` from the command line.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

import iirl_engine
from iirl_engine import hookspecs
from iirl_engine.chain_file import MANY, SINGLE, Settings
from iirl_engine.cli import cli
from iirl_engine.hookspecs import KINDS, LIFECYCLE
from iirl_engine.options import type_name
from iirl_engine.plugins import FIRST_PARTY, Plugins
from iirl_engine.registry import Entry, Registry

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "_generated"
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def pages() -> dict[str, str]:
    """Return file name -> text of every fragment."""
    return {
        "flywheel.md": _text(_options(Settings)),
        "strategies.md": _text(strategies()),
        "hooks.md": _text(hooks()),
        "commands.md": _text(commands("iirl", cli)),
    }


def first_party() -> list[Entry]:
    """Return every strategy and command that the project's own distributions offer."""
    registry = Registry(Plugins())
    return [
        entry for kind in KINDS for entry in registry.entries(kind) if entry.dist in FIRST_PARTY
    ]


def strategies() -> Iterator[str]:
    """Yield the reference of the strategies: one section per kind, in the order of a chain."""
    tables = {kind: f"[{table}]" for table, kind in SINGLE.items()}
    tables |= {kind: f"[[{table}]]" for table, kind in MANY.items()}
    entries = first_party()
    for kind in KINDS:
        found = [entry for entry in entries if entry.kind == kind]
        if not found or kind not in tables:
            continue
        yield f"### `{tables[kind]}`: {kind}s"
        for entry in found:
            yield f"#### {kind} `{entry.offer.name}`"
            yield f"From `{entry.dist}`: {entry.offer.summary}."
            yield from _described(entry)
            yield from _options(entry.offer.options)


def hooks() -> Iterator[str]:
    """Yield the reference of the hooks, from the docstrings of their specifications."""
    yield "## Provider hooks"
    for hook, _ in KINDS.values():
        yield from _hook(hook)
    yield "## Lifecycle hooks"
    for hook in LIFECYCLE:
        yield from _hook(hook)


def commands(
    path: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[str]:
    """Yield the help of a command and of the commands under it."""
    name = path.rpartition(" ")[2]
    settings = {"terminal_width": 80, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield f"## `{path}`"
    yield _fence("text", command.get_help(context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (inner := command.get_command(context, name)) is not None:
                yield from commands(f"{path} {name}", inner, context)


def _described(entry: Entry) -> Iterator[str]:
    """Yield what the class of a strategy says of itself, its numpydoc sections left out."""
    module, _, name = entry.offer.target.partition(":")
    target = getattr(importlib.import_module(module), name)
    text = inspect.getdoc(target) or ""
    yield re.split(r"\n\n\w+\n-+\n", text)[0]


def _options(options: type[Any]) -> Iterator[str]:
    fields = attrs.fields(attrs.resolve_types(options))
    if not fields:
        yield "It has no options."
        return
    rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        cells = (
            f"`{field.name}`",
            _cell(type_name(field.type) + _limits(field.metadata.get("limits", {}))),
            _cell(_default(field)),
            _cell(field.metadata.get("help", "")),
        )
        rows.append(f"| {' | '.join(cells)} |")
    yield "\n".join(rows)


def _limits(limits: dict[str, float]) -> str:
    told = " and ".join(f"{_LIMITS[name]} {limit}" for name, limit in limits.items())
    return f", {told}" if told else ""


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if field.default is None:
        return "left out"
    if isinstance(field.default, tuple):
        return f"`{list(field.default)}`"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"


def _hook(name: str) -> Iterator[str]:
    specification = getattr(hookspecs, name)
    signature = inspect.signature(specification)
    parameters = ", ".join(signature.parameters)
    returns = str(signature.return_annotation).strip("'")
    yield f"### `{name}`"
    yield _fence("python", f"def {name}({parameters}) -> {returns}: ...")
    text, example = _split(inspect.getdoc(specification) or "")
    yield text
    if arguments := _arguments(signature):
        yield arguments
    yield _fence("python", example)


def _arguments(signature: inspect.Signature) -> str:
    return "\n".join(
        f"- `{name}`: {{py:class}}`~{_documented_as(str(parameter.annotation))}`"
        for name, parameter in signature.parameters.items()
    )


def _documented_as(record: str) -> str:
    """Return the name under which the Python API documents a record."""
    return f"iirl_engine.{'' if record in iirl_engine.__all__ else 'records.'}{record}"


def _split(text: str) -> tuple[str, str]:
    """Return the prose of a docstring and the example that is indented in it."""
    lines = text.splitlines()
    prose = [line for line in lines if not line.startswith("    ")]
    example = [line for line in lines if line.startswith("    ") or not line]
    return "\n".join(prose).strip(), textwrap.dedent("\n".join(example)).strip()


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _text(parts: Iterator[str]) -> str:
    return "\n\n".join(parts) + "\n"


def write(app: Sphinx) -> None:
    """Write the fragments; an unchanged one keeps its time, so that builds stay incremental."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
