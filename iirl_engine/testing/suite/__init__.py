"""The checks, one module per kind of strategy; importing this package registers them."""

from iirl_engine.testing.suite import (
    any_kind,
    auditors,
    encoders,
    executors,
    formulas,
    gates,
    mappings,
    norms,
    refiners,
    reporters,
    schedules,
    sources,
    triages,
)

__all__ = [
    "any_kind",
    "auditors",
    "encoders",
    "executors",
    "formulas",
    "gates",
    "mappings",
    "norms",
    "refiners",
    "reporters",
    "schedules",
    "sources",
    "triages",
]
