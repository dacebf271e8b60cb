"""How a TOML table becomes a strategy's options, with every problem found at once.

A strategy's options are a frozen attrs class whose fields are made by `option`. One definition
gives the check, the default, the documentation and the JSON Schema. Types are taken strictly:
the only conversion is from int to float.

The types an option may have: `bool`, `int`, `float`, `str`, `Literal[...]`, `tuple[T, ...]`
and unions of these, `None` among them (a key that is left out).
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from iirl_engine.errors import Problem, did_you_mean

O = TypeVar("O")

_LIMITS = {
    "ge": (">=", "minimum"),
    "gt": (">", "exclusiveMinimum"),
    "le": ("<=", "maximum"),
    "lt": ("<", "exclusiveMaximum"),
}
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


@attrs.frozen(kw_only=True)
class NoOptions:
    """Options of a strategy that has none."""


def option(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    path: bool = False,
) -> Any:
    """Declare one option of a strategy.

    Parameters
    ----------
    default
        Value taken when the chain file does not name the option; without one it is required.
    help
        One line for `iirl plugins show` and the JSON Schema: meaning, unit, range.
    ge, gt, le, lt
        Limits of a number, or of each number of a tuple.
    path
        The option names an existing file; a relative one starts at the chain file's folder.
    """
    limits = {
        name: limit
        for name, limit in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt))
        if limit is not None
    }

    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if broken := _broken_limit(value, limits):
            raise ValueError(f"{attribute.name} must be {broken}, got {value!r}")

    return attrs.field(
        default=default,
        validator=validate,
        metadata={"help": help, "limits": limits, "path": path},
    )


def build_options(
    cls: type[O], table: Mapping[str, Any], path: str, problems: list[Problem], folder: Path | None
) -> O | None:
    """Turn a TOML table into an instance of `cls`.

    Parameters
    ----------
    cls
        Frozen attrs class.
    table
        What the file says, without the reserved keys `use` and `id`.
    path
        Where the table stands in the file, such as `audit[0]`.
    problems
        Every problem found is appended here.
    folder
        Where relative paths start; None when paths are neither resolved nor looked for.

    Returns
    -------
    The options, or None when a problem was found.
    """
    attributes = _attributes(cls)
    found: list[Problem] = []
    for key in table:
        if key not in attributes:
            hint = did_you_mean(key, attributes) or _known(attributes)
            found.append(Problem(f"{path}.{key}", "unknown option", hint))
    values: dict[str, Any] = {}
    for name, attribute in attributes.items():
        where = f"{path}.{name}"
        if name not in table:
            if attribute.default is attrs.NOTHING:
                found.append(
                    Problem(where, "missing", attribute.metadata.get("help", "it has no default"))
                )
            continue
        try:
            values[name] = _convert(table[name], attribute.type)
        except _Mismatch as mismatch:
            found.append(
                Problem(
                    where + mismatch.inside, f"expected {mismatch.expected}, got {mismatch.got}"
                )
            )
            continue
        if broken := _broken_limit(values[name], attribute.metadata.get("limits", {})):
            found.append(Problem(where, f"must be {broken}, got {table[name]!r}"))
        elif folder and attribute.metadata.get("path") and isinstance(values[name], str):
            file = (folder / values[name]).resolve()
            values[name] = str(file)
            if not file.is_file():
                found.append(Problem(where, f"no such file: {file}"))
    if not found:
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:
            found.append(Problem(path, str(error)))
    problems.extend(found)
    return None


def dump_options(options: Any) -> dict[str, Any]:
    """Return options as a TOML-ready table, defaults included; None is left out."""
    table = attrs.asdict(options, recurse=False)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in table.items()
        if value is not None
    }


def options_schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an options class."""
    properties: dict[str, Any] = {}
    required = []
    for name, attribute in _attributes(cls).items():
        schema = _type_schema(attribute.type, attribute.metadata.get("limits", {}))
        schema["description"] = attribute.metadata.get("help", "")
        if attribute.default is attrs.NOTHING:
            required.append(name)
        elif attribute.default is not None:
            default = attribute.default
            schema["default"] = list(default) if isinstance(default, tuple) else default
        properties[name] = schema
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def type_name(kind: Any) -> str:
    """Return a type as a reader of a TOML file knows it, such as `array of float`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'"{a}"' if isinstance(a, str) else repr(a) for a in args)
    if origin is tuple:
        return f"array of {type_name(args[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(a) for a in args if a is not type(None))
    return "string" if kind is str else getattr(kind, "__name__", str(kind))


class _Mismatch(Exception):
    def __init__(self, expected: str, got: object, inside: str = "") -> None:
        self.expected = expected
        self.got = f"{_toml_type(got)} {got!r}" if not isinstance(got, dict) else "a table"
        self.inside = inside


def _attributes(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    return attrs.fields_dict(attrs.resolve_types(cls))


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"known: {listed}" if listed else "this strategy has no options"


def _toml_type(value: object) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "string", list: "array"}
    return names.get(type(value), type(value).__name__)


def _convert(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        if any(value == a and type(value) is type(a) for a in args):
            return value
        raise _Mismatch(type_name(kind), value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Mismatch(type_name(kind), value)
        return tuple(_convert_item(item, args[0], index) for index, item in enumerate(value))
    if origin in (Union, types.UnionType):
        return _convert_union(value, kind)
    if kind is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise _Mismatch("a finite float", value)
        try:
            return float(value)
        except OverflowError:
            raise _Mismatch("a float up to 1.8e308", value) from None
    if type(value) is kind:
        return value
    raise _Mismatch(type_name(kind), value)


def _convert_item(item: Any, kind: Any, index: int) -> Any:
    try:
        return _convert(item, kind)
    except _Mismatch as mismatch:
        mismatch.inside = f"[{index}]{mismatch.inside}"
        raise


def _convert_union(value: Any, kind: Any) -> Any:
    for member in get_args(kind):
        try:
            return _convert(value, member)
        except _Mismatch:
            continue
    raise _Mismatch(type_name(kind), value)


def _broken_limit(value: object, limits: Mapping[str, float]) -> str:
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        for name, limit in limits.items():
            kept = {
                "ge": number >= limit,
                "gt": number > limit,
                "le": number <= limit,
                "lt": number < limit,
            }[name]
            if not kept:
                return " and ".join(f"{_LIMITS[n][0]} {bound}" for n, bound in limits.items())
    return ""


def _type_schema(kind: Any, limits: Mapping[str, float]) -> dict[str, Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _type_schema(args[0], limits)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type_schema(a, limits) for a in args if a is not type(None)]}
    schema: dict[str, Any] = {"type": _JSON_TYPES[kind]}
    if kind in (int, float):
        schema |= {_LIMITS[name][1]: limit for name, limit in limits.items()}
    return schema
