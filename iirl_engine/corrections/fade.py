"""A fade: no reward is left where the limit of a norm is reached."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from torch import Tensor

from iirl_engine.corrections.base import Correction, View


@attrs.frozen(eq=False, kw_only=True)
class Fade(Correction):
    """The base reward fades to nothing as a norm's limit is approached from within.

    With v(s) the norm's violation, the suppression is base(s) * h((v(s) - start) / (end - start)),
    where h rises smoothly from 0 to 1 on [0, 1]: nothing changes up to v = start, and from
    v = end on the reward is 0.

    Parameters
    ----------
    norm
        Id of the norm.
    start, end
        start < end <= 0, in the norm's units; 0 is the norm's limit.
    """

    norm: str
    start: float
    end: float

    kind: ClassVar[str] = "fade"

    def __attrs_post_init__(self) -> None:
        """Refuse a fade that is no fade, or that ends beyond the norm's limit."""
        if not (-np.inf < self.start < self.end <= 0):
            raise ValueError(f"start < end <= 0 must hold, got {self.start} and {self.end}")

    @property
    def count(self) -> int:
        return 1

    def suppression(self, view: View) -> Tensor:
        return view.base * fade(view.violations[self.norm], self.start, self.end)

    def silences(self, view: View) -> Tensor:
        # Rounding is monotone: from `end` on the share is at least 1, and base - base is 0.
        return view.violations[self.norm] >= self.end

    def norms(self) -> tuple[str, ...]:
        return (self.norm,)

    def numbers(self) -> dict[str, Any]:
        return {"norm": self.norm, "start": self.start, "end": self.end}


def fade(violation: Tensor, start: float, end: float) -> Tensor:
    """Return h((v - start) / (end - start)): 0 up to start, 1 from end on, and 1 for NaN."""
    return smooth((violation - start) / (end - start))


def smooth(share: Tensor) -> Tensor:
    """Return h of a share: 3 x^2 - 2 x^3 for x cut to [0, 1], and 1 for NaN."""
    share = share.nan_to_num(nan=1.0).clamp(0, 1)
    return share.square() * (3 - 2 * share)
