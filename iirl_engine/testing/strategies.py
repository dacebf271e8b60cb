"""Hypothesis strategies: options as a chain file may hold them, and whole chains."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st


def option_values(kind: Any, limits: dict[str, float]) -> st.SearchStrategy[Any]:
    """Return values of a declared type and within its limits, as a TOML file would hold them."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(option_values(args[0], limits), min_size=2, max_size=2)
    if origin in (Union, types.UnionType):
        return st.one_of([option_values(a, limits) for a in args if a is not type(None)])
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if kind is int:
        least = -(2**63) if low is None else int(low) + ("gt" in limits)
        most = 2**63 - 1 if high is None else int(high) - ("lt" in limits)
        return st.integers(least, most)
    if kind is float:
        return st.floats(
            low,
            high,
            exclude_min="gt" in limits,
            exclude_max="lt" in limits,
            allow_nan=False,
            allow_infinity=False,
        )
    return {bool: st.booleans(), str: st.text()}[kind]


def option_tables(cls: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return TOML tables that name the required options of a class and any of the others."""
    fields = attrs.fields_dict(attrs.resolve_types(cls))
    drawn = {n: option_values(f.type, f.metadata.get("limits", {})) for n, f in fields.items()}
    needed = {n for n, f in fields.items() if f.default is attrs.NOTHING}
    return st.fixed_dictionaries(
        {n: s for n, s in drawn.items() if n in needed},
        optional={n: s for n, s in drawn.items() if n not in needed},
    )
