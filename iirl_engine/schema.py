"""What editors need to complete and check a chain file: its JSON Schema (draft 2020-12)."""

from __future__ import annotations

import logging
from typing import Any

from iirl_engine.chain_file import DEFAULTS, ID, MANY, REQUIRED, SINGLE, Settings
from iirl_engine.errors import PluginError
from iirl_engine.options import options_schema
from iirl_engine.registry import Registry

log = logging.getLogger(__name__)


def chain_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of a chain file that uses the installed plugins."""
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    properties: dict[str, Any] = {
        "flywheel": options_schema(Settings),
        "domain": {
            "type": "object",
            "properties": {"low": numbers, "high": numbers},
            "required": ["low", "high"],
            "additionalProperties": False,
        },
    }
    for table, kind in SINGLE.items():
        properties[table] = _steps(registry, kind)
    for table, kind in MANY.items():
        properties[table] = {"type": "array", "items": _steps(registry, kind)}
        if table in REQUIRED:
            properties[table]["minItems"] = 1
    for table, default in DEFAULTS.items():
        properties[table]["default"] = default
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "iirl-engine chain file",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
        "additionalProperties": False,
    }


def _steps(registry: Registry, kind: str) -> dict[str, Any]:
    choices = []
    for entry in registry.entries(kind):
        try:
            schema = options_schema(entry.offer.options)
        except PluginError as error:
            # One plugin's defect takes no other's options from the reader.
            log.warning("left out: %s %s; %s: %s", kind, entry.qualified, error.what, error.got)
            continue
        bare = not registry.shadowed_by(entry)
        names = [entry.offer.name, entry.qualified] if bare else [entry.qualified]
        schema["description"] = entry.offer.summary
        schema["properties"] |= {"use": {"enum": names}, "id": {"type": "string", "pattern": ID}}
        schema["required"] = ["use", *schema.get("required", [])]
        choices.append(schema)
    return {"oneOf": choices}
