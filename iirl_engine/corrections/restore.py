"""Which correction it is that a release describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iirl_engine.corrections.base import Correction
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.fade import Fade
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.corrections.revision import Revision
from iirl_engine.corrections.sculpt import Sculpt

KINDS: dict[str, type[Correction]] = {
    kind.kind: kind for kind in (Kernels, Fade, Cut, Sculpt, Revision)
}


def restore(entry: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Correction:
    """Return the correction that a manifest's entry and a release's arrays describe.

    Raises
    ------
    ValueError, KeyError, TypeError
        When they describe none.
    """
    fields: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("kind", "count")}
    restored = KINDS[entry["kind"]].restored(fields, tensors)
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
    tensors = {name: np.array(array) for name, array in correction.tensors().items()}
    return restore(json.loads(json.dumps(correction.describe())), tensors)
