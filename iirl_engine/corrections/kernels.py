"""Local kernels: bumps that take reward off around their centres, or add it."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.corrections.base import Array, Correction, View, copied
from iirl_engine.patches import LocalKernels


@attrs.frozen(eq=False, kw_only=True)
class Kernels(Correction):
    """Local kernels: their effect at s is the sum of strength_j * φ(|s - centre_j| / radius_j).

    Parameters
    ----------
    centers
        `[k, d]`.
    radii
        `[k]`, > 0. Where a Wendland kernel ends; the standard deviation of a Gaussian one.
    strengths
        `[k]`, >= 0.
    profile
        `wendland`: φ(r) = (1 - r)^4 (4 r + 1) for r < 1, else 0 (Wendland 1995, C2).
        `gaussian`: φ(r) = exp(-r^2 / 2), cut where it falls below 1e-12.
    effect
        `suppress` takes the sum off the reward, `lift` adds it.
    """

    centers: Array = attrs.field(converter=copied)
    radii: Array = attrs.field(converter=copied)
    strengths: Array = attrs.field(converter=copied)
    profile: Literal["wendland", "gaussian"] = "wendland"
    effect: Literal["suppress", "lift"] = "suppress"

    kind: ClassVar[str] = "kernels"

    def __attrs_post_init__(self) -> None:
        """Refuse what has no value everywhere."""
        k = self.strengths.size
        shapes = (self.centers.shape, self.radii.shape, self.strengths.shape)
        if self.centers.ndim != 2 or shapes != ((k, self.centers.shape[1]), (k,), (k,)):
            raise ValueError(f"centers must be [k, d], radii and strengths [k], got {shapes}")
        for name in ("centers", "radii", "strengths"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")
        if not ((self.radii > 0).all() and (self.strengths >= 0).all()):
            raise ValueError("radii must be above 0 and strengths at least 0")
        if self.profile not in ("wendland", "gaussian"):
            raise ValueError(f"profile must be wendland or gaussian, got {self.profile!r}")
        if self.effect not in ("suppress", "lift"):
            raise ValueError(f"effect must be suppress or lift, got {self.effect!r}")

    @property
    def count(self) -> int:
        return len(self.strengths)

    def suppression(self, view: View) -> Tensor:
        if self.count == 0:
            return view.states.new_zeros(view.states.shape[0])
        return self._local.sum(view.states)

    def lifts(self) -> bool:
        return self.effect == "lift"

    def effects(self, view: View) -> Tensor:
        signed = -self.strengths if self.effect == "lift" else np.array(self.strengths)
        return self.profiles(view.states) * torch.from_numpy(signed)

    def take(self, parts: NDArray[np.int64]) -> Kernels:
        return attrs.evolve(
            self,
            centers=self.centers[parts],
            radii=self.radii[parts],
            strengths=self.strengths[parts],
        )

    def profiles(self, states: Tensor) -> Tensor:
        """Return φ of each state and kernel, `[n, k]`."""
        return self._local.values(states)

    @functools.cached_property
    def _local(self) -> LocalKernels:
        strengths = -self.strengths if self.effect == "lift" else self.strengths
        return LocalKernels(self.centers, self.radii, strengths, self.profile)

    def tensors(self) -> dict[str, Array]:
        return {"centers": self.centers, "radii": self.radii, "strengths": self.strengths}

    def numbers(self) -> dict[str, Any]:
        # Releases made before kernels could lift say nothing of an effect.
        return {"profile": self.profile} | ({"effect": "lift"} if self.effect == "lift" else {})
