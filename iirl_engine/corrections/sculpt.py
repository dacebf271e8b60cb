"""A sculpted mapping: the base reward is mapped down by a monotone function, perhaps in a ball."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor

from iirl_engine.corrections.base import Array, Correction, View, copied
from iirl_engine.corrections.fade import smooth
from iirl_engine.support import power_of_two


@attrs.frozen(eq=False, kw_only=True)
class Sculpt(Correction):
    """The base reward b becomes p(b), with p monotone, piecewise linear and nowhere above b.

    With the share h(s), the suppression is h(s) (b - p(b)). Everywhere the share is 1; or it is 1
    up to a distance `inner` of a center and falls smoothly to 0 at `outer`.

    Parameters
    ----------
    knots
        `[k]` base rewards, ascending from 0 to 1, k >= 2.
    values
        `[k]` p at the knots: from 0 on never falling, and nowhere above the knot.
    center
        `[d]` of a ball, or empty for everywhere.
    inner, outer
        0 <= inner < outer, in units of the states; both 0 for everywhere.
    """

    knots: Array = attrs.field(converter=copied)
    values: Array = attrs.field(converter=copied)
    center: Array = attrs.field(converter=copied, factory=lambda: np.empty(0))
    inner: float = 0.0
    outer: float = 0.0

    kind: ClassVar[str] = "sculpt"

    def __attrs_post_init__(self) -> None:
        """Refuse what would raise a reward, or turn two around."""
        shapes = (self.knots.shape, self.values.shape, self.center.shape)
        if shapes[:2] != ((self.knots.size,),) * 2 or len(shapes[2]) != 1 or self.knots.size < 2:
            raise ValueError(f"knots and values must be [k], k >= 2, and center [d], got {shapes}")
        for name in ("knots", "values", "center"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")
        if self.knots[0] != 0 or self.knots[-1] != 1 or (np.diff(self.knots) <= 0).any():
            raise ValueError("knots must be ascending from 0 to 1")
        if (np.diff(self.values, prepend=0.0) < 0).any() or (self.values > self.knots).any():
            raise ValueError(
                "values must be at least 0, never fall, and be nowhere above the knots"
            )
        if not (0 <= self.inner < self.outer < np.inf if self.center.size else self._everywhere):
            got = f"got {self.inner} and {self.outer}"
            raise ValueError(f"0 <= inner < outer must be true in a ball, or both be 0, {got}")

    @property
    def _everywhere(self) -> bool:
        return self.inner == self.outer == 0

    @property
    def count(self) -> int:
        return 1

    def suppression(self, view: View) -> Tensor:
        taken = (view.base - self.mapped(view.base)).clamp(min=0)
        return taken if self._everywhere else taken * self.share(view.states)

    def mapped(self, base: Tensor) -> Tensor:
        """Return p of base rewards `[n]`."""
        # A sum of ramps, each cut at both ends: rounding leaves it monotone.
        found = torch.zeros_like(base) + float(self.values[0])
        widths, rises = np.diff(self.knots).tolist(), np.diff(self.values).tolist()
        for knot, width, rise in zip(self.knots.tolist(), widths, rises, strict=False):
            found = found + ((base - knot) / width).clamp(0, 1) * rise
        return found

    def share(self, states: Tensor) -> Tensor:
        """Return how far a ball holds `states [n, d]`, from 0 to 1, `[n]`."""
        # A power of two: squares stay in range.
        unit = power_of_two(max(float(np.abs(self.center).max()), self.outer))
        center = torch.from_numpy(self.center / unit)[None]
        direct = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(states / unit, center, compute_mode=direct)[:, 0]
        inner, outer = self.inner / unit, self.outer / unit
        return smooth((outer - apart) / (outer - inner))

    def tensors(self) -> dict[str, Array]:
        ball = {} if self._everywhere else {"center": self.center}
        return {"knots": self.knots, "values": self.values} | ball

    def numbers(self) -> dict[str, Any]:
        return {} if self._everywhere else {"inner": self.inner, "outer": self.outer}
