"""Export for iirl-engine: a reward as one file that needs neither the engine nor its plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iirl_export.exported import Exported, export

__all__ = ["Exported", "export"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the hook module stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iirl_export import exported

    return getattr(exported, name)
