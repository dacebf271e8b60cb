"""The world of the demo `figure1` for chains of tests, learned quickly."""

from __future__ import annotations

FEATURES = 3
# What follows a chain's [flywheel]; auditors, refiners and gates are the test's own.
_WORLD = """
[source]
use = "figure1"
[encoder]
{encoder}
[mapping]
use = "linear"
cap = {cap}
[[norm]]
use = "support"
boundary = 0.34
"""
KNN = _WORLD.format(encoder='use = "knn"', cap=2.0)


def autoencoders(steps: int) -> str:
    """Return the world with the demo's encoder, trained for so many steps."""
    return _WORLD.format(encoder=f'use = "moe-autoencoder"\nsteps = {steps}', cap=0.3)


# A run whose second round finds nothing any more.
CHAIN = f"""
report = []
[flywheel]
rounds = 3
{autoencoders(50)}[[audit]]
use = "sobol"
budget = 1024
[[audit]]
use = "pgd"
budget = 512
[[refine]]
use = "envelope"
"""
