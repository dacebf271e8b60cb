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
    """Local kernels: their effect at s is the sum of strength_j * φ(|p(s) - centre_j| / radius_j).

    Parameters
    ----------
    centers
        `[k, d]`, or `[k, z + 1]` in the space of codes.
    radii
        `[k]`, > 0. Where a Wendland kernel ends; the standard deviation of a Gaussian one.
    strengths
        `[k]`, >= 0.
    profile
        `wendland`: φ(r) = (1 - r)^4 (4 r + 1) for r < 1, else 0 (Wendland 1995, C2).
        `gaussian`: φ(r) = exp(-r^2 / 2), cut where it falls below 1e-12.
    effect
        `suppress` takes the sum off the reward, `lift` adds it.
    space
        `state`: p(s) = s. `code`: p(s) holds the z features of the encoder and sqrt(L(s)), each
        divided by its scale. The residual sqrt(L) keeps apart what the features take for the same:
        states off the manifold of the demonstrations, and those on it.
    scales
        `[z + 1]`, > 0, in the space of codes; else None.
    """

    centers: Array = attrs.field(converter=copied)
    radii: Array = attrs.field(converter=copied)
    strengths: Array = attrs.field(converter=copied)
    profile: Literal["wendland", "gaussian"] = "wendland"
    effect: Literal["suppress", "lift"] = "suppress"
    space: Literal["state", "code"] = "state"
    scales: Array | None = attrs.field(default=None, converter=attrs.converters.optional(copied))

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
        if self.space not in ("state", "code"):
            raise ValueError(f"space must be state or code, got {self.space!r}")
        if (self.scales is not None) != (self.space == "code"):
            raise ValueError("scales must be given in the space of codes, and there alone")
        if self.scales is not None:
            if self.scales.shape != self.centers.shape[1:]:
                raise ValueError(f"scales must be [z + 1], got {self.scales.shape}")
            if not ((self.scales > 0).all() and np.isfinite(self.scales).all()):
                raise ValueError("scales must be above 0 and finite")

    @property
    def count(self) -> int:
        return len(self.strengths)

    def suppression(self, view: View) -> Tensor:
        if self.count == 0:
            return view.states.new_zeros(view.states.shape[0])
        return self._local.sum(self.places(view))

    def places(self, view: View) -> Tensor:
        """Return p(s) of a view's states, `[n, d]`, or `[n, z + 1]` in the space of codes.

        Raises
        ------
        ValueError
            When the encoder has another number of features.
        """
        if self.scales is None:
            return view.states
        features = view.features
        if features.ndim != 2 or features.shape[1] + 1 != len(self.scales):
            raise ValueError(
                f"{self.id} has scales for {len(self.scales) - 1} features, the encoder gives "
                f"{list(features.shape)}"
            )
        # The root has no slope at 0; there the residual is at its least, and flat.
        some = view.loss > 0
        residual = torch.where(some, torch.where(some, view.loss, 1.0).sqrt(), view.loss)
        code = torch.cat([features.to(torch.float64), residual[:, None]], dim=1)
        return code / torch.tensor(self.scales)

    def lifts(self) -> bool:
        return self.effect == "lift"

    def effects(self, view: View) -> Tensor:
        signed = -self.strengths if self.effect == "lift" else np.array(self.strengths)
        return self.profiles(self.places(view)) * torch.from_numpy(signed)

    def take(self, parts: NDArray[np.int64]) -> Kernels:
        return attrs.evolve(
            self,
            centers=self.centers[parts],
            radii=self.radii[parts],
            strengths=self.strengths[parts],
        )

    def profiles(self, places: Tensor) -> Tensor:
        """Return φ of each place and kernel, `[n, k]`; in state space places are states."""
        return self._local.values(places)

    @functools.cached_property
    def _local(self) -> LocalKernels:
        strengths = -self.strengths if self.effect == "lift" else self.strengths
        return LocalKernels(self.centers, self.radii, strengths, self.profile)

    def tensors(self) -> dict[str, Array]:
        named = {"centers": self.centers, "radii": self.radii, "strengths": self.strengths}
        return named | ({} if self.scales is None else {"scales": self.scales})

    def numbers(self) -> dict[str, Any]:
        # Releases made before there was a choice say nothing of effect and space.
        numbers: dict[str, Any] = {"profile": self.profile}
        numbers |= {"effect": "lift"} if self.effect == "lift" else {}
        return numbers | ({"space": "code"} if self.space == "code" else {})
