"""How a TOML table becomes a strategy's options, with every problem found at once.

A strategy's options are a frozen attrs class whose fields are made by `option`. One definition
gives the check, the default, the documentation and the JSON Schema. Types are taken strictly:
the only conversion is from int to float.

The types an option may have: `bool`, `int`, `float`, `str`, `Literal[...]`, `tuple[T, ...]`
and unions of these, `None` among them (a key that is left out).
"""

from __future__ import annotations

import datetime
import math
import operator
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from iirl_engine.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

O = TypeVar("O")

_LIMITS = {
    "ge": (">=", "minimum", operator.ge),
    "gt": (">", "exclusiveMinimum", operator.gt),
    "le": ("<=", "maximum", operator.le),
    "lt": ("<", "exclusiveMaximum", operator.lt),
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
    members: bool = False,
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
    members
        The option holds ids of other steps of the same table, which then run under this one.
    """
    limits = {
        name: limit
        for name, limit in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt))
        if limit is not None
    }

    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        for inside, number in _numbers(value):
            if broken := _broken_limit(number, limits):
                raise ValueError(f"{attribute.name}{inside} must be {broken}, got {number!r}")

    return attrs.field(
        default=default,
        validator=validate,
        metadata={"help": help, "limits": limits, "path": path, "members": members},
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
            found.append(Problem(f"{path}.{key_text(key)}", "unknown option", hint))
    values: dict[str, Any] = {}
    for name, attribute in attributes.items():
        where = f"{path}.{name}"
        help = f"{name}: {attribute.metadata.get('help', 'not documented')}"
        if name not in table:
            if attribute.default is attrs.NOTHING:
                found.append(Problem(where, "missing", help))
            continue
        try:
            values[name] = value = _convert(table[name], attribute.type)
        except _Mismatch as mismatch:
            message = f"expected {mismatch.expected}, got {described(mismatch.got)}"
            found.append(Problem(where + mismatch.inside, message, mismatch.hint or help))
            continue
        for inside, number in _numbers(value):
            if broken := _broken_limit(number, attribute.metadata.get("limits", {})):
                found.append(Problem(where + inside, f"must be {broken}, got {number!r}", help))
        if folder and attribute.metadata.get("path") and isinstance(value, str):
            file, there = _file(folder, value)
            values[name] = file
            if not there:
                hint = "a relative path starts at the folder of the chain file"
                found.append(Problem(where, f"there is no such file: {file}", hint))
    if not found:
        try:
            return cls(**values)
        except ValueError as error:
            found.append(Problem(path, str(error)))
        except Exception as error:
            found.append(Problem(path, f"{type(error).__name__}: {error}"))
    problems.extend(found)
    return None


def members_of(options: Any) -> Iterator[tuple[str, str]]:
    """Yield (place in the options, id) of each step that is to run under the one that has them."""
    for attribute in attrs.fields(type(options)):
        if attribute.metadata.get("members"):
            for index, name in enumerate(getattr(options, attribute.name)):
                yield f"{attribute.name}[{index}]", name


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


def described(value: object) -> str:
    """Return a value of a TOML file with its type, in a few words on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "an array of tables"
    if isinstance(value, bool):
        return f"bool {str(value).lower()}"
    names = {int: "int", float: "float", str: "string", list: "array"}
    return f"{names.get(type(value), type(value).__name__)} {_shown(value)}"


def key_text(key: str) -> str:
    """Return a key as TOML writes it: bare if it can be, else in quotes."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else _shown(key)


class _Mismatch(Exception):
    def __init__(self, expected: str, got: object, hint: str = "") -> None:
        self.expected = expected
        self.got = got
        self.hint = hint
        self.inside = ""


def _attributes(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    return attrs.fields_dict(attrs.resolve_types(cls))


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"known: {listed}" if listed else "this strategy has no options"


def _shown(value: object) -> str:
    dated = isinstance(value, datetime.date | datetime.time)
    try:
        text = str(value) if dated else repr(value)
    except ValueError:  # an int of thousands of digits
        return "of enormous size"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _file(folder: Path, value: str) -> tuple[str, bool]:
    """Return the absolute path of a file, and whether there is one; a last / means a folder."""
    try:
        file = (folder / value).resolve()
        return str(file), file.is_dir() if value.endswith("/") else file.is_file()
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return _shown(value), False


def _convert(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        if any(value == a and type(value) is type(a) for a in args):
            return value
        raise _Mismatch(type_name(kind), value, _hint(value, kind))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Mismatch(type_name(kind), value)
        return tuple(_convert_item(item, args[0], index) for index, item in enumerate(value))
    if origin in (Union, types.UnionType):
        return _convert_union(value, kind)
    if kind is float and type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _Mismatch("a finite float", value)
        return number
    if kind is int and type(value) is int and not -(2**63) <= value < 2**63:
        raise _Mismatch("an int of 64 bits", value)
    if type(value) is kind:
        return value
    raise _Mismatch(type_name(kind), value, _hint(value, kind))


def _convert_item(item: Any, kind: Any, index: int) -> Any:
    try:
        return _convert(item, kind)
    except _Mismatch as mismatch:
        mismatch.inside = f"[{index}]{mismatch.inside}"
        raise


def _convert_union(value: Any, kind: Any) -> Any:
    told: _Mismatch | None = None
    for member in get_args(kind):
        try:
            return _convert(value, member)
        except _Mismatch as mismatch:
            # The right type with something wrong in it says more than the list of types.
            if mismatch.inside or mismatch.expected != type_name(member):
                told = mismatch
    raise told or _Mismatch(type_name(kind), value, _hint(value, kind))


def _hint(value: object, kind: Any) -> str:
    """Return what a text was probably meant to be, or nothing."""
    if not isinstance(value, str):
        return ""
    texts = [a for part in (kind, *get_args(kind)) for a in get_args(part) if isinstance(a, str)]
    if meant := did_you_mean(value, texts):
        return meant
    import tomllib

    try:
        _convert(tomllib.loads(f"value = {value}")["value"], kind)
    except (ValueError, RecursionError, _Mismatch):
        return ""
    return f"write {value.strip()} without quotes" if value.isprintable() else ""


def _numbers(value: object) -> Iterator[tuple[str, float]]:
    """Yield each number of a value with its place in it, such as `[1]`."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from ((f"[{index}]{inside}", number) for inside, number in _numbers(item))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield "", value


def _broken_limit(number: float, limits: Mapping[str, float]) -> str:
    if all(_LIMITS[name][2](number, limit) for name, limit in limits.items()):
        return ""
    return " and ".join(f"{_LIMITS[name][0]} {limit}" for name, limit in limits.items())


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
