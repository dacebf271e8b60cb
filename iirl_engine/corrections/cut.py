"""A cut: no reward is left beyond planes that a refiner learned."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor

from iirl_engine.corrections.base import Array, Correction, View, copied
from iirl_engine.corrections.fade import smooth


@attrs.frozen(eq=False, kw_only=True)
class Cut(Correction):
    """The base reward fades to nothing as the first of some planes is reached.

    With m(s) = max_j (a_j · s - b_j) / w_j, the suppression is base(s) * h(m(s) + 1), where h rises
    smoothly from 0 to 1 on [0, 1]: nothing changes up to a width inside every plane, and from any
    plane on the reward is 0.

    Parameters
    ----------
    normals
        `[k, d]` a_j, none of them zero, k >= 1.
    offsets
        `[k]` b_j.
    widths
        `[k]` w_j, > 0, in the unit of a_j · s.
    """

    normals: Array = attrs.field(converter=copied)
    offsets: Array = attrs.field(converter=copied)
    widths: Array = attrs.field(converter=copied)

    kind: ClassVar[str] = "cut"

    def __attrs_post_init__(self) -> None:
        """Refuse what is no plane, or has no value everywhere."""
        k = self.offsets.size
        shapes = (self.normals.shape, self.offsets.shape, self.widths.shape)
        if not k or self.normals.ndim != 2 or [s[0] for s in shapes if len(s)] != [k] * 3:
            raise ValueError(f"normals must be [k, d], offsets and widths [k], got {shapes}")
        for name in ("normals", "offsets", "widths"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")
        if not ((self.widths > 0).all() and (self.normals != 0).any(axis=1).all()):
            raise ValueError("widths must be above 0, and no normal zero")

    @property
    def count(self) -> int:
        return len(self.offsets)

    def suppression(self, view: View) -> Tensor:
        return view.base * smooth(self.depth(view.states) + 1)

    def silences(self, view: View) -> Tensor:
        # As for a fade: from a plane on the share is at least 1, and base - base is 0.
        return self.depth(view.states) >= 0

    def depth(self, states: Tensor) -> Tensor:
        """Return m(s) `[n]` of `states [n, d]`: widths beyond the planes, below 0 within them.

        A row does not depend on its batch, so that a state that is silenced has no reward.
        """
        normals, offsets = torch.tensor(self.normals), torch.tensor(self.offsets)
        beyond = [(states * a).sum(dim=1) - b for a, b in zip(normals, offsets, strict=True)]
        return (torch.stack(beyond, dim=1) / torch.tensor(self.widths)).amax(dim=1)

    def tensors(self) -> dict[str, Array]:
        return {"normals": self.normals, "offsets": self.offsets, "widths": self.widths}

    def numbers(self) -> dict[str, Any]:
        return {}
