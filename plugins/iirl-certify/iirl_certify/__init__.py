"""Certificates for iirl-engine: proofs that a reward endorses nothing that a norm forbids."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iirl_certify.boxes import Region
    from iirl_certify.certifying import Proof, certify
    from iirl_certify.regions import around_demonstrations, slices

_PLACES = {
    "Proof": "certifying",
    "Region": "boxes",
    "around_demonstrations": "regions",
    "certify": "certifying",
    "slices": "regions",
}
__all__ = ["Proof", "Region", "around_demonstrations", "certify", "slices"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the hook module stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
