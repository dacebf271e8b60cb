"""Expertness as distance: how far the nearest expert states are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from iirl_encoders.options import KnnOptions
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, Demonstrations, Encoder
from iirl_engine.support import Support


class Knn(Encoder[KnnOptions]):
    """L(s) is the mean Euclidean distance to the k nearest expert states, found exactly."""

    abilities = Abilities(unlearning=True, incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        states = torch.tensor(demonstrations.states)
        self._index(Scale.asked(self.options.standardize, states), states)

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        k = min(self.options.k, len(self._support.states))
        return Code(scaled, self._support.neighbours(scaled, k)[0].mean(dim=1))

    def uncertainty(self, states: Tensor) -> Tensor | None:
        """Return the standard error of L as a mean of k distances; None when k is 1."""
        k = min(self.options.k, len(self._support.states))
        if k == 1:
            return None
        apart = self._support.neighbours(self._scale(states), k)[0]
        return apart.std(dim=1) / math.sqrt(k)

    def unlearn(self, rest: Demonstrations) -> None:
        states = torch.tensor(rest.states)
        self._index(Scale.asked(self.options.standardize, states), states)

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        # On the scale that it has, so that no state becomes less expert by an added neighbour.
        self._index(self._scale, torch.tensor(demonstrations.states))

    def tensors(self) -> dict[str, Tensor]:
        return {"center": self._scale.center, "spread": self._scale.spread}

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        scale = Scale(tensors["center"], tensors["spread"])
        self._index(scale, torch.tensor(demonstrations.states))

    def _index(self, scale: Scale, states: Tensor) -> None:
        self._scale = scale
        self._support = Support(scale(states).numpy())
