"""Recorded rollouts of policies in one environment, which benchmarks learn from and judge by.

They stand in `../shared/data`: one folder per environment, one file per policy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = [SHARED / "loco_halfcheetah", SHARED / "loco_hopper"]
EXPERT_STATES = 5000

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class World:
    """The rollouts of one environment."""

    name: str
    states: dict[str, Array]
    rewards: dict[str, Array]
    lengths: dict[str, Array]
    returns: dict[str, float]

    @property
    def expert(self) -> str:
        return max(self.returns, key=self.returns.__getitem__)


def read(folder: Path) -> World:
    files = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
    return World(
        folder.name,
        {name: file["obs"].astype(np.float64) for name, file in files.items()},
        {name: file["rew"].astype(np.float64) for name, file in files.items()},
        {name: file["ep_len"] for name, file in files.items()},
        {name: float(file["ep_ret"].mean()) for name, file in files.items()},
    )


def arguments(doc: str, *, seeds: int) -> argparse.Namespace:
    """Return the folders and the number of seeds that the command line asks a benchmark for.

    Parameters
    ----------
    doc
        The benchmark's own docstring.
    seeds
        How many by default.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=DATA)
    parser.add_argument("--seeds", type=int, default=seeds)
    given = parser.parse_args()
    if missing := [str(folder) for folder in given.data if not folder.is_dir()]:
        name = Path(sys.argv[0]).stem
        sys.exit(f"{name}: no such folder: {', '.join(missing)}; name rollouts with --data")
    torch.set_num_threads(1)
    return given
