"""A revision: encoder and mapping edited, as though some demonstrations had never been seen."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.corrections.base import Correction, View
from iirl_engine.demonstrations import read_only, without

if TYPE_CHECKING:
    from iirl_engine import api
    from iirl_engine.records import Demonstrations


def _closed(given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return closed copies of arrays of whatever numbers a part keeps."""
    copies = {}
    for name, array in given.items():
        held = np.array(array.detach().numpy() if isinstance(array, Tensor) else array)
        if held.dtype.kind not in "fiub" or not np.isfinite(held).all():
            raise ValueError(f"{name} must hold finite numbers")
        copies[name] = read_only(np.ascontiguousarray(held))
    return copies


def _rows(given: Any) -> NDArray[np.int64]:
    rows = np.array(given)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"rows must be integers [m], got {rows.dtype} {rows.shape}")
    if (np.diff(rows) <= 0).any() or (rows < 0).any():
        raise ValueError("rows must rise and be at least 0")
    return read_only(rows.astype(np.int64))


@attrs.frozen(eq=False, kw_only=True)
class Revision(Correction):
    """The base reward is that of an edited encoder and mapping; without it, the former again.

    Of several revisions the last one holds. It takes nothing off the base reward: it changes what
    that is, so that the base may rise somewhere, too.

    Parameters
    ----------
    encoder, mapping
        Name -> array: what `tensors` of the edited parts returns.
    rows
        `[m]` rows of the demonstrations that the parts no longer know, rising; may be empty.
    """

    encoder: Mapping[str, NDArray[Any]] = attrs.field(converter=_closed)
    mapping: Mapping[str, NDArray[Any]] = attrs.field(converter=_closed)
    rows: NDArray[np.int64] = attrs.field(converter=_rows)

    kind: ClassVar[str] = "revision"

    @classmethod
    def of(
        cls,
        encoder: api.Encoder[Any],
        mapping: api.Mapping[Any],
        rows: Any,
        *,
        id: str,
        refiner: str,
        round: int,
    ) -> Revision:
        """Return the revision that puts fitted parts in the place of a reward's own."""
        return cls(
            id=id,
            refiner=refiner,
            round=round,
            encoder=encoder.tensors(),
            mapping=mapping.tensors(),
            rows=rows,
        )

    @classmethod
    def restored(cls, fields: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Correction:
        parts: dict[str, dict[str, Any]] = {"encoder": {}, "mapping": {}}
        for name, array in tensors.items():
            part, _, rest = name.partition(".")
            if name != "rows":
                parts[part][rest] = array
        kept = {name: value for name, value in fields.items() if name != "forgets"}
        arrays = {**parts, "rows": tensors["rows"]}
        return cls(**kept | arrays)

    @property
    def count(self) -> int:
        return 1

    def suppression(self, view: View) -> Tensor:
        return view.states.new_zeros(view.states.shape[0])

    def parts(
        self, encoder: api.Encoder[Any], mapping: api.Mapping[Any], data: Demonstrations
    ) -> tuple[api.Encoder[Any], api.Mapping[Any]]:
        """Return the edited encoder and mapping, of the same kinds and options as those given.

        Raises
        ------
        ValueError
            When the demonstrations have no such rows.
        """
        key = id(encoder), id(mapping), id(data)
        if key not in self._made:
            revised = type(encoder)(encoder.options)
            tensors = {name: torch.tensor(array) for name, array in self.encoder.items()}
            revised.restore(tensors, self.rest(data))
            curve = type(mapping)(mapping.options)
            curve.restore({name: torch.tensor(array) for name, array in self.mapping.items()})
            # What the key names is kept, so that it goes on naming it.
            self._made[key] = revised, curve, (encoder, mapping, data)
        revised, curve, _ = self._made[key]
        return revised, curve

    def rest(self, data: Demonstrations) -> Demonstrations:
        """Return the demonstrations that the parts still know.

        Raises
        ------
        ValueError
            When there are no such rows, or no others.
        """
        try:
            return without(data, self.rows)
        except ValueError as error:
            raise ValueError(f"{self.id} forgets what it cannot: {error}") from error

    @functools.cached_property
    def _made(self) -> dict[tuple[int, int, int], Any]:
        return {}

    def tensors(self) -> dict[str, NDArray[Any]]:
        named: dict[str, NDArray[Any]] = {"rows": self.rows}
        named |= {f"encoder.{name}": array for name, array in self.encoder.items()}
        return named | {f"mapping.{name}": array for name, array in self.mapping.items()}

    def numbers(self) -> dict[str, Any]:
        return {"forgets": len(self.rows)}
