"""Hypothesis strategies: options and chains as a file may hold them, and records."""

from __future__ import annotations

import functools
import types
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from iirl_engine.audit import flaw_ids
from iirl_engine.chain_file import MANY, REQUIRED, SINGLE
from iirl_engine.demonstrations import check
from iirl_engine.records import Demonstrations, Flaws
from iirl_engine.registry import Registry


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


def demonstrations(
    width: int | None = None, magnitude: float = 1e6
) -> st.SearchStrategy[Demonstrations]:
    """Return checked demonstrations of 1 to 30 finite states, of any or a given width."""
    widths = st.integers(1, 5) if width is None else st.just(width)
    values = st.floats(-magnitude, magnitude)
    shapes = st.tuples(st.integers(1, 30), widths)
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values)).map(check)


def flaws(width: int) -> st.SearchStrategy[Flaws]:
    """Return batches of 0 to 30 different flaws with features between -1 and 1."""
    shapes = st.tuples(st.integers(0, 30), st.just(width))
    drawn = shapes.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-1, 1), unique=True))
    return drawn.map(_flaws_at)


def chain_tables(registry: Registry) -> st.SearchStrategy[dict[str, Any]]:
    """Return the tables of chain files that use the registry's strategies.

    Names, types and limits are right; files that options name need not exist, and options that
    contradict each other are possible, so `check_chain` may still object.
    """

    def step(kind: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.one_of(
            [
                option_tables(entry.offer.options).map(functools.partial(_named, entry.qualified))
                for entry in registry.entries(kind)
            ]
        )

    one = {table: step(kind) for table, kind in SINGLE.items()}
    many = {table: st.lists(step(kind), min_size=1, max_size=3) for table, kind in MANY.items()}
    every = one | many
    return st.fixed_dictionaries(
        {table: every[table] for table in REQUIRED},
        optional={table: every[table] for table in every if table not in REQUIRED},
    ).map(_with_ids)


def _named(use: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"use": use} | options


def _with_ids(tables: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [step | {"id": f"{name}-{place}"} for place, step in enumerate(table)]
        if isinstance(table, list)
        else table
        for name, table in tables.items()
    }


def _flaws_at(states: NDArray[np.float64]) -> Flaws:
    count = len(states)
    ones = np.ones(count)
    return Flaws(flaw_ids(states), states, ones, ones, ("norm",) * count, ("auditor",) * count)
