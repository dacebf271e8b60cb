"""Corrections: what they are, and their exact evaluation.

A corrected reward is clip(base - suppression + lift, 0, 1), each summed over the corrections.
Corrections are data: they can be listed, stored in a release and taken away again.
"""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.support import power_of_two

Array = NDArray[np.float64]

_TILE = 2**22
# Where a Gaussian kernel is cut: exp(-r^2 / 2) < 1e-12 beyond.
_GAUSSIAN_REACH = 7.434


def _copied(given: Any) -> Array:
    """Return numbers as a closed float64 copy, so that nobody can change them later."""
    array = np.array(given)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"a correction's arrays must hold numbers, got {array.dtype}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    array.setflags(write=False)
    return array


def _check_id(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # A release names a correction's tensors by its id: a dot in it would be ambiguous.
    if not (isinstance(value, str) and re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", value)):
        raise ValueError(f"{attribute.name} must be letters, digits, - and _, got {value!r}")


def _check_type(kind: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not kind:
            raise ValueError(f"{attribute.name} must be {kind.__name__}, got {value!r}")

    return check


@attrs.frozen(eq=False, kw_only=True)
class Correction(abc.ABC):
    """One entry in a reward's list of corrections.

    Parameters
    ----------
    id
        Unique in a release, such as `r1-kernel-lp`: letters, digits, `-` and `_`.
    refiner
        Id of the step of the chain that proposed it.
    round
        Round that added it.
    """

    id: str = attrs.field(validator=_check_id)
    refiner: str = attrs.field(validator=_check_type(str))
    round: int = attrs.field(validator=_check_type(int))

    kind: ClassVar[str]

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many corrections this entry stands for."""

    @abc.abstractmethod
    def suppression(self, states: Tensor, base: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        """Return what is taken off the base reward, `[n]`; below 0 where a correction lifts it.

        Parameters
        ----------
        states
            `[n, d]` float64.
        base
            `[n]` base reward.
        violations
            Norm id -> violation `[n]`.
        """

    def silences(self, violations: Mapping[str, Tensor]) -> Tensor | None:
        """Return where it provably takes the whole base reward, whatever that is, `[n]`.

        None, the default, says nowhere.
        """
        return None

    def norms(self) -> tuple[str, ...]:
        """Return the ids of the norms that `suppression` looks at."""
        return ()

    def tensors(self) -> dict[str, Array]:
        """Return the arrays that a release stores."""
        return {}

    @abc.abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Return the parameters that a release's manifest states."""

    def describe(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {
            "id": self.id,
            "kind": self.kind,
            "refiner": self.refiner,
            "round": self.round,
            "count": self.count,
            **self.numbers(),
        }


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

    centers: Array = attrs.field(converter=_copied)
    radii: Array = attrs.field(converter=_copied)
    strengths: Array = attrs.field(converter=_copied)
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

    def suppression(self, states: Tensor, base: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        if self.count == 0:
            return torch.zeros_like(base)
        signed = -self.strengths if self.effect == "lift" else np.array(self.strengths)
        strengths = torch.from_numpy(signed)
        rows = max(1, _TILE // self.count)
        return torch.cat([self.profiles(part) @ strengths for part in torch.split(states, rows)])

    def profiles(self, states: Tensor) -> Tensor:
        """Return φ of each state and kernel, `[n, k]`."""
        unit = power_of_two(float(np.abs(self.centers).max()))
        centers = torch.from_numpy(self.centers / unit)
        apart = torch.cdist(states / unit, centers, compute_mode="donot_use_mm_for_euclid_dist")
        r = apart / torch.from_numpy(self.radii / unit)
        if self.profile == "wendland":
            return (1 - r).clamp(min=0).pow(4) * (4 * r.clamp(max=1) + 1)
        return torch.where(r < _GAUSSIAN_REACH, torch.exp(-r.square() / 2), 0.0)

    def tensors(self) -> dict[str, Array]:
        return {"centers": self.centers, "radii": self.radii, "strengths": self.strengths}

    def numbers(self) -> dict[str, Any]:
        # Releases made before kernels could lift say nothing of an effect.
        return {"profile": self.profile} | ({"effect": "lift"} if self.effect == "lift" else {})


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

    def suppression(self, states: Tensor, base: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        return base * fade(violations[self.norm], self.start, self.end)

    def silences(self, violations: Mapping[str, Tensor]) -> Tensor:
        # Rounding is monotone: from `end` on the share is at least 1, and base - base is 0.
        return violations[self.norm] >= self.end

    def norms(self) -> tuple[str, ...]:
        return (self.norm,)

    def numbers(self) -> dict[str, Any]:
        return {"norm": self.norm, "start": self.start, "end": self.end}


def fade(violation: Tensor, start: float, end: float) -> Tensor:
    """Return h((v - start) / (end - start)): 0 up to start, 1 from end on, and 1 for NaN."""
    share = ((violation - start) / (end - start)).nan_to_num(nan=1.0).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def restore(entry: Mapping[str, Any], tensors: Mapping[str, Array]) -> Correction:
    """Return the correction that a manifest's entry and a release's arrays describe.

    Raises
    ------
    ValueError, KeyError, TypeError
        When they describe none.
    """
    kinds: dict[str, type[Correction]] = {"kernels": Kernels, "fade": Fade}
    fields: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("kind", "count")}
    for name, array in tensors.items():
        if array.dtype != np.float64:
            raise ValueError(f"{name} of correction {entry['id']} must be float64")
    restored = kinds[entry["kind"]](**fields | dict(tensors))
    if restored.describe() != dict(entry):
        raise ValueError(f"correction {entry['id']} is not what its entry says")
    return restored


def as_released(correction: Correction) -> Correction:
    """Return a correction as a release will hold it: what gates judge is what is released.

    Raises
    ------
    ValueError, KeyError, TypeError
        When a release cannot hold it.
    """
    if not isinstance(correction, Correction):
        raise TypeError(f"a correction was expected, got {type(correction).__name__}")
    tensors = {name: _copied(array) for name, array in correction.tensors().items()}
    return restore(json.loads(json.dumps(correction.describe())), tensors)
