"""The conformance kit for plugin authors: is a plugin as good as its users may expect.

With pytest, one test per offer and check:

    from iirl_engine.testing import conformance

    @conformance("acme-audit")
    def test_conformance(check):
        check()

With unittest, or by hand:

    for check in checks("acme-audit"):
        with self.subTest(str(check)):
            check()

`iirl plugins check acme-audit` runs the same checks from the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iirl_engine.testing.distributions import fake_dist
    from iirl_engine.testing.kit import Check, CheckFailed, checks, conformance
    from iirl_engine.testing.runs import run_chain
    from iirl_engine.testing.worlds import WORLDS, Bowl, Cliff, Flat, Mistaken, Noisy, Spike, World

_HOME = {
    "kit": ("Check", "CheckFailed", "checks", "conformance"),
    "distributions": ("fake_dist",),
    "runs": ("run_chain",),
    "worlds": ("WORLDS", "Bowl", "Cliff", "Flat", "Mistaken", "Noisy", "Spike", "World"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "WORLDS",
    "Bowl",
    "Check",
    "CheckFailed",
    "Cliff",
    "Flat",
    "Mistaken",
    "Noisy",
    "Spike",
    "World",
    "checks",
    "conformance",
    "fake_dist",
    "run_chain",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f"iirl_engine.testing.{_MODULE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
