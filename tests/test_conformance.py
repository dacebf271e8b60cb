"""Every first-party strategy passes the conformance kit."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from iirl_engine.testing import Check, conformance

FILES = Path(tempfile.mkdtemp())
np.savez(FILES / "demos.npz", states=np.random.default_rng(0).normal(size=(20, 3)))
(FILES / "demos.csv").write_text("x,y\n1,2\n3,4\n")
# Two policies of the known-answer worlds: one stays near the experts, one is forbidden.
for name, place, gain in (("good", 0.0, 10.0), ("fair", 0.3, 5.0), ("bad", 0.8, -10.0)):
    (FILES / "policies").mkdir(exist_ok=True)
    np.savez(
        FILES / "policies" / f"{name}.npz",
        states=np.full((10, 2), place),
        ep_len=np.array([10]),
        ep_ret=np.array([gain]),
    )
EXAMPLES = {
    "ordering": {"path": str(FILES / "policies")},
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


# Fewer queries or steps than their defaults: every check audits anew.
AUDITORS = {"cma-es": {"budget": 4096}, "flow": {"steps": 50}, "isolation-forest": {"trees": 20}}


@conformance("iirl-auditors", examples=AUDITORS)
def test_the_auditors_conform(check: Check) -> None:
    check()


@conformance("iirl-refiners")
def test_the_refiners_conform(check: Check) -> None:
    check()


ENVIRONMENTS = {
    "pointmaze": {"states": 500},
    "icu-sepsis": {"patients": 50},
    "exploit": {"budget": 4096, "horizon": 40},
    "minari": {"dataset": str(FILES / "minari" / "walk-v0")},
}


@pytest.fixture(scope="module", autouse=True)
def _recorded() -> None:
    """Record two short walks in the format of Minari."""
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    walks = [
        EpisodeBuffer(
            id=number,
            observations=np.random.default_rng(number).normal(size=(11, 3)),
            actions=np.zeros((10, 1), dtype=np.float32),
            rewards=[0.0] * 10,
            terminations=[False] * 10,
            truncations=[False] * 9 + [True],
        )
        for number in range(2)
    ]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like an author, a description, ...
        patch.setenv("MINARI_DATASETS_PATH", str(FILES / "minari"))
        minari.create_dataset_from_buffers(
            "walk-v0",
            walks,
            observation_space=Box(-np.inf, np.inf, (3,), np.float64),
            action_space=Box(-1, 1, (1,), np.float32),
        )


@conformance("iirl-gym", examples=ENVIRONMENTS)
def test_the_environments_conform(check: Check) -> None:
    check()
