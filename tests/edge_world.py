"""A small world for runs: experts in a square, all beyond x0 = 0.5 forbidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# What follows a chain's [flywheel]; auditors, refiners and gates are the test's own.
WORLD = """
[source]
use = "npz"
path = "demos.npz"
[domain]
low = [-1.0, -1.0]
high = [1.0, 1.0]
[encoder]
use = "knn"
[mapping]
use = "linear"
cap = 4.0
[[norm]]
use = "box"
features = ["x0"]
low = [-2.0]
high = [0.5]
"""


def write_demonstrations(folder: Path) -> None:
    """Write `demos.npz`, 50 expert states around the origin."""
    np.savez(folder / "demos.npz", states=np.random.default_rng(0).uniform(-0.2, 0.2, (50, 2)))
