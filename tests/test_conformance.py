"""Every first-party strategy passes the conformance kit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from iirl_engine.testing import Check, conformance

FILES = Path(tempfile.mkdtemp())
np.savez(FILES / "demos.npz", states=np.random.default_rng(0).normal(size=(20, 3)))
(FILES / "demos.csv").write_text("x,y\n1,2\n3,4\n")
EXAMPLES = {
    "npz": {"path": str(FILES / "demos.npz")},
    "csv": {"path": str(FILES / "demos.csv")},
    "support": {"boundary": 1.0},
    "box": {"features": ["x0", "x2"], "low": [-1.0, -1.0], "high": [1.0, 2.0]},
    "exponential": {"half_life": 100.0},
    "schedule linear": {"duration": 100.0},
    "region": {"norm": "support"},
    "norm linear": {"a": [1.0, 0.0, -2.0], "b": 1.0},
}


@conformance("iirl-engine", examples=EXAMPLES)
def test_the_core_conforms(check: Check) -> None:
    check()


# Fewer steps than their defaults: every check fits anew.
NETWORKS = {
    "moe-autoencoder": {"steps": 300},
    "energy": {"steps": 100},
    "rnd": {"steps": 100},
    "flow": {"steps": 100},
}


@conformance("iirl-encoders", examples=NETWORKS)
def test_the_encoders_conform(check: Check) -> None:
    check()


@conformance("iirl-auditors")
def test_the_auditors_conform(check: Check) -> None:
    check()


@conformance("iirl-refiners")
def test_the_refiners_conform(check: Check) -> None:
    check()


@conformance("iirl-gym", examples={"pointmaze": {"states": 500}})
def test_the_environments_conform(check: Check) -> None:
    check()
