"""Which correction it is that a release describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from iirl_engine.corrections.base import Array, Correction, copied
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.fade import Fade
from iirl_engine.corrections.kernels import Kernels

KINDS: dict[str, type[Correction]] = {kind.kind: kind for kind in (Kernels, Fade, Cut)}


def restore(entry: Mapping[str, Any], tensors: Mapping[str, Array]) -> Correction:
    """Return the correction that a manifest's entry and a release's arrays describe.

    Raises
    ------
    ValueError, KeyError, TypeError
        When they describe none.
    """
    fields: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("kind", "count")}
    for name, array in tensors.items():
        if array.dtype != np.float64:
            raise ValueError(f"{name} of correction {entry['id']} must be float64")
    restored = KINDS[entry["kind"]](**fields | dict(tensors))
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
    tensors = {name: copied(array) for name, array in correction.tensors().items()}
    return restore(json.loads(json.dumps(correction.describe())), tensors)
