"""Monotone mappings g_ψ from expertness loss to reward."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_encoders.options import ExpOptions, IsotonicOptions, LinearOptions, SigmoidOptions
from iirl_engine import Context, Mapping
from iirl_engine.api import Operation

# Experts whose losses differ by less than this share of the largest are taken as alike.
_ALIKE = 1e-9
_MOST = 1e308


class Exp(Mapping[ExpOptions]):
    """g(L) = exp(-k (L - l_min) / (l_max - l_min)), at most 1 (MoE-GUIDE, arXiv 2507.15287)."""

    def fit(self, loss: Tensor, context: Context) -> None:
        asked_low, asked_high = self.options.l_min, self.options.l_max
        low = float(loss.min()) if asked_low == "auto" else asked_low
        if asked_high == "auto":
            high = max(_quantile(loss), low + _least_spread(low))
        else:
            high = asked_high
            low = min(low, high - _least_spread(high)) if asked_low == "auto" else low
        self._low, self._high = low, high

    def map(self, loss: Tensor) -> Tensor:
        return self._uncut(loss).clamp(max=1)

    def reward_and_slope(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        rate = -self.options.steepness / (self._high - self._low)
        uncut = self._uncut(loss)
        return uncut.clamp(max=1), torch.where(uncut > 1, 0.0, rate * uncut)

    def _uncut(self, loss: Tensor) -> Tensor:
        return torch.exp(-self.options.steepness * (loss - self._low) / (self._high - self._low))

    def tensors(self) -> dict[str, Tensor]:
        return {"limits": torch.tensor([self._low, self._high], dtype=torch.float64)}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        self._low, self._high = tensors["limits"].tolist()

    def formula(self) -> Operation:
        return {"op": "exp", "limits": "limits", "steepness": self.options.steepness}


class Linear(Mapping[LinearOptions]):
    """g(L) = 1 - clip(L / cap, 0, 1)."""

    def fit(self, loss: Tensor, context: Context) -> None:
        asked = self.options.cap
        cap = _multiple(3.0, loss) if asked == "auto" else asked
        self._cap = torch.tensor([cap], dtype=torch.float64)

    def map(self, loss: Tensor) -> Tensor:
        return 1 - (loss / self._cap).clamp(0, 1)

    def reward_and_slope(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        return self.map(loss), torch.where(loss > self._cap, 0.0, -1 / self._cap)

    def tensors(self) -> dict[str, Tensor]:
        return {"cap": self._cap}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        self._cap = tensors["cap"]

    def formula(self) -> Operation:
        return {"op": "linear", "cap": "cap"}


class Sigmoid(Mapping[SigmoidOptions]):
    """g(L) = (1 + exp(-m / w)) / (1 + exp((L - m) / w)): a logistic step that is 1 at L = 0."""

    def fit(self, loss: Tensor, context: Context) -> None:
        asked_middle, asked_width = self.options.middle, self.options.width
        middle = _multiple(1.5, loss) if asked_middle == "auto" else asked_middle
        width = middle / 6 if asked_width == "auto" else asked_width
        self._shape = torch.tensor([middle, width], dtype=torch.float64)

    def map(self, loss: Tensor) -> Tensor:
        middle, width = self._shape
        step = torch.sigmoid((middle - loss) / width) / torch.sigmoid(middle / width)
        return step.clamp(max=1)

    def tensors(self) -> dict[str, Tensor]:
        return {"shape": self._shape}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        self._shape = tensors["shape"]

    def formula(self) -> Operation:
        return {"op": "sigmoid", "shape": "shape"}


class Isotonic(Mapping[IsotonicOptions]):
    """g(L) runs in straight lines through knots (L_i, v_i), v_i never rising, the last one 0.

    Before the first knot it is v_0. It can be sculpted: `tensors` gives `knots` and `values`, and
    `with_values` a copy that goes through other values.
    """

    def fit(self, loss: Tensor, context: Context) -> None:
        if self.options.knots == "auto":
            cap = _multiple(3.0, loss)
            shares = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
            knots = [0.0]
            for knot in [*(_quantile(loss, share) for share in shares), cap]:
                if knot - knots[-1] > _ALIKE * cap:
                    knots.append(knot)
        else:
            knots = [*self.options.knots]
        if self.options.values == "auto":
            cap = knots[-1]
            values = [1 - knot / cap for knot in knots]
        else:
            values = [*self.options.values]
        if values[-1] > 0:
            knots, values = [*knots, 2 * knots[-1]], [*values, 0.0]
        elif len(knots) == 1:
            knots, values = [0.0, *knots], [0.0, *values]
        self._knots = torch.tensor(knots, dtype=torch.float64)
        self._values = torch.tensor(values, dtype=torch.float64)

    def map(self, loss: Tensor) -> Tensor:
        right = torch.searchsorted(self._knots, loss.detach().contiguous(), right=True)
        right = right.clamp(1, len(self._knots) - 1)
        start, end = self._knots[right - 1], self._knots[right]
        high, low = self._values[right - 1], self._values[right]
        share = ((loss - start) / (end - start)).clamp(0, 1)
        # Rounding must not lift the end of a line above the start of the next.
        return torch.maximum(high + share * (low - high), low)

    def with_values(
        self, values: Sequence[float] | NDArray[Any] | Tensor, strength: Any = None
    ) -> Isotonic:
        """Return a copy that goes through other values at the same knots.

        Values that rise are replaced by the nearest that do not, in least squares (isotonic
        regression), and cut to [0, 1]; the last one stays 0.

        Parameters
        ----------
        values
            `[k]` finite, one per knot of `tensors()`.
        strength
            `[k]` above 0: how much each value counts where they have to give way; by default alike.

        Raises
        ------
        ValueError
            When there are not as many values as knots, or one is not finite.
        """
        from scipy.optimize import isotonic_regression

        asked = np.asarray(values, dtype=np.float64)
        if asked.shape != self._values.shape or not np.isfinite(asked).all():
            raise ValueError(f"values must be {len(self._values)} finite numbers, got {asked}")
        falling = isotonic_regression(asked, weights=strength, increasing=False).x.clip(0, 1)
        falling[-1] = 0.0
        copy = Isotonic(self.options)
        copy.restore({"knots": self._knots, "values": torch.from_numpy(falling)})
        return copy

    def tensors(self) -> dict[str, Tensor]:
        return {"knots": self._knots, "values": self._values}

    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        knots, values = tensors["knots"], tensors["values"]
        falling = bool((knots.diff() > 0).all() and (values.diff() <= 0).all())
        if not (falling and len(knots) >= 2 and values[0] <= 1 and values[-1] == 0):
            raise ValueError("knots must rise and values fall, from at most 1 to 0")
        self._knots, self._values = knots, values

    def formula(self) -> Operation:
        return {"op": "isotonic", "knots": "knots", "values": "values"}


def _quantile(loss: Tensor, share: float = 0.99) -> float:
    ordered = loss.sort().values
    return float(ordered[round(share * (len(ordered) - 1))])


def _multiple(factor: float, loss: Tensor) -> float:
    """Return a multiple of the 99 % quantile that can be divided by."""
    return min(max(factor * _quantile(loss), _least_spread(0.0)), _MOST)


def _least_spread(size: float) -> float:
    return max(_ALIKE * abs(size), 1e-12)
