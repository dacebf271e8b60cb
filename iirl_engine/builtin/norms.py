"""Norms as formulas: distance to the expert states, boxes, half-spaces."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iirl_engine.api import Context, Norm, Operation
from iirl_engine.builtin.options import BoxOptions, LinearOptions, SupportOptions
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations
from iirl_engine.support import Support, power_of_two


class SupportNorm(Norm[SupportOptions]):
    """Forbids states farther than `boundary` from every expert state.

    The violation is the Euclidean distance to the nearest expert state minus the boundary.
    """

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        self._support = demonstrations.support
        if self.options.boundary != "auto":
            self._boundary = torch.tensor(self.options.boundary, dtype=torch.float64)
            return
        spacing = self._support.spacing
        if (spacing == 0).any():  # of states that were recorded twice, one counts
            spacing = Support(np.unique(demonstrations.states, axis=0)).spacing
        apart = spacing[torch.isfinite(spacing) & (spacing > 0)]
        if len(apart) == 0:
            raise DataError(
                'boundary = "auto" needs two different expert states',
                where=demonstrations.origin,
                next_step="write the boundary as a number",
            )
        self._boundary = 2 * torch.quantile(apart[: 2**24], 0.99)

    def violation(self, states: Tensor) -> Tensor:
        return self._support.distance(states) - self._boundary

    def reach(self) -> float:
        return float(self._boundary)

    def tensors(self) -> dict[str, Tensor]:
        return {"boundary": self._boundary.reshape(1)}

    def formula(self) -> Operation:
        return {"op": "support", "boundary": "boundary"}

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._support = demonstrations.support
        self._boundary = tensors["boundary"][0]


class _FormulaNorm(Norm[Any]):
    """A norm that needs nothing of the data but its feature names."""

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        self.bind(demonstrations.feature_names)

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self.bind(demonstrations.feature_names)

    @abc.abstractmethod
    def bind(self, names: tuple[str, ...]) -> None:
        """Find the columns of the features that the norm names."""


class BoxNorm(_FormulaNorm):
    """Forbids a box on named features, or everything outside it.

    The violation is the distance, in the largest coordinate, to the face that would have to be
    crossed: depth inside a forbidden box, excess outside an allowed one.
    """

    options: BoxOptions

    def bind(self, names: tuple[str, ...]) -> None:
        unknown = [name for name in self.options.features if name not in names]
        if unknown:
            raise DataError(
                f"norm box names features that the states do not have: {', '.join(unknown)}",
                known=names,
            )
        self._columns = torch.tensor([names.index(name) for name in self.options.features])
        self._low = torch.tensor(self.options.low, dtype=torch.float64)
        self._high = torch.tensor(self.options.high, dtype=torch.float64)

    def violation(self, states: Tensor) -> Tensor:
        chosen = states[:, self._columns]
        outside = torch.maximum(self._low - chosen, chosen - self._high).amax(dim=1)
        return -outside if self.options.forbid else outside

    def formula(self) -> Operation:
        return {
            "op": "box",
            "columns": self._columns.tolist(),
            "low": self._low.tolist(),
            "high": self._high.tolist(),
            "forbid": self.options.forbid,
        }


class LinearNorm(_FormulaNorm):
    """Forbids the half-space a.s > b; the violation is the distance to its face."""

    options: LinearOptions

    def bind(self, names: tuple[str, ...]) -> None:
        if len(self.options.a) != len(names):
            raise DataError(
                f"norm linear has {len(self.options.a)} coefficients, the states have "
                f"{len(names)} features",
                known=names,
            )
        # Scaling by a power of two changes no digit, and keeps squares in range.
        unit = power_of_two(max(map(abs, self.options.a)))
        a = torch.tensor(self.options.a, dtype=torch.float64) / unit
        length = torch.linalg.vector_norm(a)
        self._a: Tensor = a / length
        self._b = self.options.b / unit / float(length)

    def violation(self, states: Tensor) -> Tensor:
        return (states * self._a).sum(dim=1) - self._b

    def formula(self) -> Operation:
        return {"op": "linear", "a": list(self.options.a), "b": self.options.b}
