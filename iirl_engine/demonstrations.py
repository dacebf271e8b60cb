"""Which arrays can be demonstrations, and which part of them is held out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.counted import count
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations, Domain, NormSpec

# With fewer expert states than this, neither a reward nor its audit says much.
_FEW = 10

Array = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


def check(
    states: Any,
    *,
    feature_names: Sequence[str] | None = None,
    known_good: Any = None,
    negatives: Any = None,
    t: Any = None,
    episode: Any = None,
    weights: Any = None,
    negative_weights: Any = None,
    norms: Sequence[NormSpec] = (),
    domain: Domain | None = None,
    origin: str = "",
) -> Demonstrations:
    """Check arrays and return them as `Demonstrations`.

    Parameters
    ----------
    states
        `[n, d]` expert states, n >= 1 and d >= 1; integers and floats of any width.
    feature_names
        `d` unique names; `x0`, `x1`, ... when not given.
    known_good, negatives
        `[k, d]`, may be left out.
    t, episode
        `[n]`, may be left out.
    weights, negative_weights
        `[n]` and `[m]` >= 0, not all 0: how much each state counts; may be left out.
    norms, domain
        What the source knows of the world.
    origin
        Where the data came from, for messages and reports.

    Raises
    ------
    DataError
        When an array has the wrong rank, width or type, is empty, or holds NaN or Inf.
    """
    checked = state_array(states, "states", origin)
    rows, width = checked.shape
    others = _side(negatives, "negatives", width, origin)
    names = tuple(feature_names) if feature_names is not None else _numbered(width)
    if len(names) != width or len(set(names)) != width:
        raise DataError(
            f"feature_names must be {width} different names, one per column of states",
            where=origin,
            got=list(names),
        )
    if domain is not None:
        _check_domain(domain, width, origin)
    return Demonstrations(
        states=checked,
        feature_names=names,
        held_out=read_only(np.empty((0, width))),
        known_good=_side(known_good, "known_good", width, origin),
        negatives=others,
        t=None if t is None else _column(t, "t", rows, origin),
        episode=None if episode is None else _episodes(episode, rows, origin),
        weights=_weights(weights, "weights", rows, origin),
        negative_weights=_weights(negative_weights, "negative_weights", len(others), origin),
        norms=tuple(norms),
        domain=domain,
        origin=origin,
    )


def state_array(array: Any, name: str, origin: object, *, finite: bool = True) -> Array:
    """Return a read-only float64 copy of `[n, d]` states, n >= 1.

    Raises
    ------
    DataError
        When the array is no such thing, or, where `finite`, holds NaN or Inf.
    """
    values = _numbers(array, name, origin)
    if values.ndim != 2:
        raise DataError(
            f"{name} must have two axes, [n states, d features]",
            where=origin,
            got=f"shape {list(values.shape)}",
            next_step="a single state is written as one row, [1, d]",
        )
    if 0 in values.shape:
        raise DataError(f"{name} is empty", where=origin, got=f"shape {list(values.shape)}")
    if finite and not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{name} holds NaN or Inf in {int(bad.any(axis=1).sum())} of {len(values)} rows",
            where=origin,
            got=f"{values[row, column]} in row {row}, column {column}",
            next_step="drop or repair these rows; the engine never fills in values",
        )
    return read_only(values)


def hold_out(
    demonstrations: Demonstrations, share: float, generator: np.random.Generator
) -> Demonstrations:
    """Return demonstrations with `share` of their states, whole episodes if known, held out.

    At least one state always stays to learn from; a share too small for one state or episode
    holds out none.
    """
    rows = len(demonstrations.states)
    groups = np.arange(rows) if demonstrations.episode is None else demonstrations.episode
    names = np.unique(groups)
    chosen = generator.permutation(names)[: min(int(share * len(names)), len(names) - 1)]
    if len(chosen) == 0:
        return demonstrations
    out = np.isin(groups, chosen)
    return attrs.evolve(
        take(demonstrations, ~out),
        held_out=read_only(demonstrations.states[out]),
        held_out_episode=None if demonstrations.episode is None else read_only(groups[out]),
    )


def too_few(demonstrations: Demonstrations, share: float) -> Iterator[str]:
    """Say what demonstrations, of which `share` was to be held out, are too few for."""
    states, episode = demonstrations.states, demonstrations.episode
    if (given := len(states) + len(demonstrations.held_out)) < _FEW:
        yield f"{count(given, 'expert state')}: too few to judge a reward by; give {_FEW} or more"
    if share > 0 and not len(demonstrations.held_out):
        groups = (
            count(len(states), "expert state")
            if episode is None
            else count(len(np.unique(episode)), "episode")
        )
        yield (
            f"held_out = {share:g} of {groups} is nothing: the reward is judged by states that it "
            "was fitted on"
        )


def take(demonstrations: Demonstrations, rows: NDArray[np.bool_]) -> Demonstrations:
    """Return demonstrations with some of their expert states, those that a mask `[n]` names."""

    def some(column: NDArray[T] | None) -> NDArray[T] | None:
        return None if column is None else read_only(column[rows])

    return attrs.evolve(
        demonstrations,
        states=read_only(demonstrations.states[rows]),
        t=some(demonstrations.t),
        episode=some(demonstrations.episode),
        weights=some(demonstrations.weights),
    )


def without(demonstrations: Demonstrations, rows: NDArray[np.int64]) -> Demonstrations:
    """Return demonstrations but for the expert states of some rows `[m]`, which rise.

    Raises
    ------
    ValueError
        When there are no such rows, or no others.
    """
    if not rows.size:
        return demonstrations
    kept = np.ones(len(demonstrations.states), dtype=np.bool_)
    if rows[-1] >= len(kept):
        raise ValueError(f"there is no row {rows[-1]} of {len(kept)} demonstrations")
    kept[rows] = False
    if not kept.any():
        raise ValueError("no demonstration is left")
    return take(demonstrations, kept)


def episode_starts(data: Demonstrations) -> Array:
    """Return the first state `[k, d]` of each episode; none where episodes are not known."""
    if data.episode is None:
        return data.states[:0]
    return np.asarray(data.states[np.unique(data.episode, return_index=True)[1]])


def widened_range(states: Array) -> Domain:
    """Return the default domain: the range of the expert states widened by 50 %."""
    low, high = states.min(axis=0), states.max(axis=0)
    width = high / 2 - low / 2
    size = np.maximum(np.abs(low), np.abs(high))
    constant = np.where(size > 0, size, 1.0)
    margin = np.where(width > 0, width / 2, constant / 2)
    with np.errstate(over="ignore"):
        low, high = low - margin, high + margin
    largest = np.finfo(np.float64).max / 4
    return Domain(
        low=tuple(np.clip(low, -largest, largest).tolist()),
        high=tuple(np.clip(high, -largest, largest).tolist()),
    )


def _numbered(width: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(width))


def number_array(array: Any, name: str, origin: object = None) -> NDArray[Any]:
    """Return an array of integers or floats as it is; what is masked in it becomes NaN.

    Raises
    ------
    DataError
        When it is no rectangular array of numbers.
    """
    try:
        values = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} is no rectangular array", where=origin, got=error) from error
    if values.dtype.kind not in "fiu":
        raise DataError(
            f"{name} must hold integers or floats",
            where=origin,
            got=f"dtype {values.dtype}",
            next_step="encode categories as numbers, for example one-hot",
        )
    if isinstance(array, np.ma.MaskedArray):
        values = np.where(np.ma.getmaskarray(array), np.nan, values)
    return values


def _numbers(array: Any, name: str, origin: object) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.array(number_array(array, name, origin), dtype=np.float64)


def _side(array: Any, name: str, width: int, origin: str) -> Array:
    if array is None or np.shape(array)[:1] == (0,):
        return read_only(np.empty((0, width)))
    values = state_array(array, name, origin)
    if values.shape[1] != width:
        raise DataError(
            f"{name} must have as many features as states",
            where=origin,
            got=f"{values.shape[1]} features, states have {width}",
        )
    return values


def _column(array: Any, name: str, rows: int, origin: str) -> Array:
    values = _numbers(array, name, origin)
    if values.shape != (rows,) or not np.isfinite(values).all():
        raise DataError(
            f"{name} must be one finite number per state",
            where=origin,
            got=f"shape {list(values.shape)}, there are {rows} states",
        )
    return read_only(values)


def _weights(array: Any, name: str, rows: int, origin: str) -> Array | None:
    if array is None:
        return None
    values = _column(array, name, rows, origin)
    if not ((values >= 0).all() and values.any()):
        raise DataError(f"{name} must be at least 0, and not all 0", where=origin)
    return values


def _episodes(array: Any, rows: int, origin: str) -> NDArray[np.int64]:
    values = _column(array, "episode", rows, origin)
    whole = values.astype(np.int64) if (np.abs(values) <= 2**53).all() else np.zeros(0)
    if not np.array_equal(whole, values):
        raise DataError("episode must hold whole numbers up to 2^53", where=origin)
    return read_only(whole.astype(np.int64))


def _check_domain(domain: Domain, width: int, origin: object) -> None:
    for side in (domain.low, domain.high):
        if len(side) != width:
            raise DataError(
                f"the domain has {len(side)} features, the states have {width}", where=origin
            )
    for index, (low, high) in enumerate(zip(domain.low, domain.high, strict=True)):
        if not (low < high and math.isfinite(high - low)):
            raise DataError(
                "the domain's low must be below its high, both finite",
                where=origin,
                got=f"{low} and {high} for feature {index}",
            )


def read_only(array: NDArray[T]) -> NDArray[T]:
    """Return the array in C order, closed to writing."""
    array = np.ascontiguousarray(array)
    array.setflags(write=False)
    return array
