"""How `--set table.option=value` changes the tables of a chain file."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

from iirl_engine.chain_file import DEFAULTS, MANY
from iirl_engine.errors import UsageError


def apply(table: dict[str, Any], override: str) -> None:
    """Apply `path.to.option=value` to the tables of a chain file."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(
            "an override is written table.option=value",
            got=override,
            next_step="for example --set flywheel.seed=1 or --set audit.pgd.steps=80",
        )
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except (ValueError, RecursionError):
        value = text.strip()
    at: Any = table
    for depth, key in enumerate(keys[:-1]):
        at = _descend(at, key, ".".join(keys[:depth]), override)
    if not isinstance(at, dict | list):
        raise UsageError(f"{'.'.join(keys[:-1])} is no table", where="--set", got=override)
    if isinstance(at, list):
        raise UsageError(
            "an override must name an option",
            where="--set",
            got=override,
            next_step=f"for example --set {'.'.join(keys)}.OPTION=VALUE",
        )
    at[keys[-1]] = value


def _descend(at: Any, key: str, path: str, override: str) -> Any:
    """Return what `key` means in a table, or which table of an array has it as its id."""
    if isinstance(at, list):
        tables = [table for table in at if isinstance(table, dict)]
        ids = [t.get("id") or str(t.get("use", "")).rpartition(":")[2] for t in tables]
        if key in ids:
            return tables[ids.index(key)]
        raise UsageError(f"no {path} has the id {key!r}", where="--set", got=override, known=ids)
    if not isinstance(at, dict):
        raise UsageError(f"{path} is no table", where="--set", got=override)
    if not path and key not in at and key in DEFAULTS:
        at[key] = copy.deepcopy(DEFAULTS[key])
    if not path and key not in at and key in MANY:
        raise UsageError(
            f"the chain has no [[{key}]]",
            where="--set",
            got=override,
            next_step=f"add [[{key}]] to the chain file",
        )
    return at.setdefault(key, {})
