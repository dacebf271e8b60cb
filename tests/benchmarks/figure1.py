"""Figure 1 with given weights: our refiners beside the reference's published figures.

    make bench-figure1        (or: python -m tests.benchmarks.figure1 [--data DIR])

The world is the reference's: 20 expert vertices, the reward 1 - clip(L / 0.3, 0, 1) of its own
mixture of autoencoders, boundary 0.34, floor 0.01. A grid of 20^3 cells is counted, 837 of them
known good. Each row runs the whole engine for at most `--rounds` rounds; `+ merge` rows have the
kernels of the row above merged once, afterwards. The reference's own convergence file stands
beside them. It reads `../shared/data/figure1`.

`rounds` are those that made a release, `grid flaws` cells that are endorsed farther than 0.34 from
every vertex, `cells over cap` known-good cells that lost more than 0.10 (and the most that one
lost), `off-grid %` the share of uniform points that lie farther than 0.36 and are endorsed, `kept`
the mean reward within 0.30 of a vertex as a share of what it was. CPU seconds are those of the
refinement, gates and releases included, and of the rounds in all; compare them within one run
only.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import iirl_engine as iirl
from iirl_engine.builtin.figure1 import BOUNDARY, grid
from iirl_engine.knowledge import Knowledge
from iirl_refiners.merge import Merge
from iirl_refiners.options import MergeOptions

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "figure1"
CHAIN = """
report = []
[flywheel]
rounds = {rounds}
[source]
use = "npz"
path = "demos.npz"
[domain]
low = [-1.0, -1.0, -1.0]
high = [1.0, 1.0, 1.0]
[encoder]
use = "moe-autoencoder"
weights = "{weights}"
[mapping]
use = "linear"
cap = 0.3
[[norm]]
use = "support"
boundary = 0.34
[[audit]]
use = "sobol"
[[audit]]
use = "ray"
budget = 2048
[[audit]]
use = "pgd"
budget = 2048
{refine}
[[gate]]
use = "known-good"
max_loss = {cap}
[[gate]]
use = "closure"
share = 0.0
held_out_share = {held_out}
"""
# What the reference's authors report of their cumulative-200 setting, measured by re-running it.
REFERENCE = {
    "refiner": "reference*",
    "rounds": "15",
    "corrections": "2,904",
    "grid flaws": "0",
    "cells over cap": "239 (max 0.72)",
    "off-grid %": "0.95",
    "kept <= 0.30": "-",
    "refine s": "16.8 in all",
    "rounds s": "-",
}


def main() -> int:
    """Print the table; exit with 2 when the data are not there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--greedy-rounds", type=int, default=15)
    parser.add_argument("--points", type=int, default=1_000_000)
    given = parser.parse_args()
    if not (given.data / "moe_weights.npz").is_file():
        print(f"the benchmark needs the reference's weights in {given.data}", file=sys.stderr)
        return 2
    expert = np.load(given.data / "expert_path.npy").astype(np.float64)
    cells = grid()
    near = cKDTree(expert).query(cells)[0] <= BOUNDARY
    check_weights(given.data, cells)
    rows = [REFERENCE]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        np.savez(here / "demos.npz", states=expert, known_good=cells[near])
        yardstick = Yardstick(expert, given.points)
        for refiners, rounds in (
            (("kernel-greedy",), given.greedy_rounds),
            (("kernel-lp",), given.rounds),
            (("envelope",), given.rounds),
            (("envelope", "kernel-lp"), given.rounds),
        ):
            out, row = run(here, refiners, rounds, given.data, yardstick)
            rows.append(row)
            if refiners[-1].startswith("kernel") and len(refiners) == 1:
                rows.append(merge(out, row, yardstick))
    print()
    print_table(rows)
    reference = list(csv.DictReader((given.data / "reference_convergence.csv").open()))
    left = ", ".join(row["flaws"] for row in reference)
    print("\n* as measured by re-running the authors' code in its cumulative-200 setting; its own")
    print(f"  count of grid flaws after each of {len(reference)} rounds: {left}")
    return 0


def chain_of(
    refiners: Sequence[str], rounds: int, data: Path, cap: float = 0.10, held_out: float = 0.5
) -> str:
    """Return the chain file of the world, with these refiners and limits of the gates."""
    return CHAIN.format(
        rounds=rounds,
        weights=data / "moe_weights.npz",
        refine="".join(f'[[refine]]\nuse = "{refiner}"\n' for refiner in refiners),
        cap=cap,
        held_out=held_out,
    )


def check_weights(data: Path, cells: np.ndarray) -> None:
    """Our loss of the given weights must be the loss that comes with them."""
    import torch

    from iirl_encoders.moe import mixture, read_weights

    states = torch.tensor(cells)
    mixed = mixture(states, read_weights(data / "moe_weights.npz", 3))[1]
    loss = (states - mixed).square().mean(dim=1).numpy()
    worst = float(np.abs(loss - np.load(data / "loss_grid.npy")).max())
    print(f"loss on the grid differs from the reference's by at most {worst:.1e}")
    assert worst < 1e-5


class Yardstick:
    """Counts what a reward leaves of the world's flaws, and what it keeps of the rest."""

    def __init__(self, expert: np.ndarray, points: int) -> None:
        tree, self.cells = cKDTree(expert), grid()
        self.good = tree.query(self.cells)[0] <= BOUNDARY
        self.states = np.random.default_rng(0).uniform(-1, 1, (points, 3))
        distance = tree.query(self.states)[0]
        self.far, self.inner = distance > BOUNDARY + 0.02, distance <= 0.30

    def measure(self, before: iirl.RewardModel, after: iirl.RewardModel) -> dict[str, str]:
        """Return the columns that the two rewards decide."""
        loss = (before(self.cells) - after(self.cells))[self.good]
        inner, far = self.states[self.inner], self.states[self.far]
        kept = after(inner).mean() / before(inner).mean()
        return {
            "corrections": f"{sum(c.count for c in after.corrections):,}",
            "grid flaws": f"{int(((after(self.cells) > 0.01) & ~self.good).sum()):,}",
            "cells over cap": f"{int((loss > 0.10 + 1e-9).sum())} (max {loss.max():.2f})",
            "off-grid %": f"{100 * (after(far) > 0.01).sum() / len(self.states):.3f}",
            "kept <= 0.30": f"{100 * kept:.1f} %",
        }


def run(
    folder: Path, refiners: tuple[str, ...], rounds: int, data: Path, yardstick: Yardstick
) -> tuple[Path, dict[str, str]]:
    """Run a chain with these refiners; return its directory and its row."""
    name = ", ".join(refiners)
    out = folder / "-".join(refiners)
    chain = out.with_suffix(".toml")
    # The baseline breaks the cap over its rounds, and closes little beyond what it is shown; it
    # is let through so that it can be counted.
    free = name == "kernel-greedy"
    text = chain_of(refiners, rounds, data, *((1.0, 0.0) if free else (0.10, 0.5)))
    chain.write_text(text)
    started = time.process_time()
    outcome = iirl.Flywheel.from_file(chain, out=out).run()
    total = time.process_time() - started
    audits = sum(audit.seconds for r in outcome.rounds for audit in r.audits)
    before = iirl.load_release(out / "releases" / "0000")
    if name == "kernel-greedy":
        flaws = int(((before(yardstick.cells) > 0.01) & ~yardstick.good).sum())
        print(f"before: {int(yardstick.good.sum())} known-good cells, {flaws:,} grid flaws\n")
    return out, {
        "refiner": name,
        "rounds": str(sum(r.release is not None for r in outcome.rounds)),
        **yardstick.measure(before, iirl.load_release(outcome.release)),
        "refine s": f"{sum(r.seconds for r in outcome.rounds) - audits:.1f}",
        "rounds s": f"{total:.1f}",
    }


def merge(out: Path, row: dict[str, str], yardstick: Yardstick) -> dict[str, str]:
    """Merge the kernels of a run's newest release; return its row, and print the exact ratio."""
    before = iirl.load_release(out / "releases" / "0000")
    many = iirl.load_release(sorted((out / "releases").iterdir())[-1])
    knowledge = Knowledge(out)
    flaws = knowledge.flaws(3)
    knowledge.close()
    is_open = many(flaws.states) > 0.01
    good = yardstick.cells[yardstick.good]
    asked = iirl.Repair(
        model=many,
        flaws=flaws.take(np.flatnonzero(is_open)),
        closed=flaws.states[~is_open],
        known_good=good,
        original=before(good),
        floor=0.01,
    )
    started = time.process_time()
    said = Merge(MergeOptions()).propose(asked, iirl.Context("refine", "merge", 0, 99))
    seconds = time.process_time() - started
    kept = [c for c in many.corrections if c.id not in said.replaces]
    few = many.evolve(corrections=(*kept, *said.corrections))
    counts = [sum(c.count for c in model.corrections) for model in (many, few)]
    reopened = int((few(asked.closed) > 0.01).sum())
    print(
        f"merge of {row['refiner']}: {counts[0]:,} kernels become {counts[1]:,} "
        f"({counts[1] / counts[0]:.3f}); of {len(asked.closed):,} closed flaws reopen {reopened}"
    )
    name, rounds = f"{row['refiner']} + merge", row["rounds"]
    measured = yardstick.measure(before, few)
    return {
        "refiner": name,
        "rounds": rounds,
        **measured,
        "refine s": f"{seconds:.1f}",
        "rounds s": "-",
    }


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows of equal keys as aligned columns."""
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in ({key: key for key in rows[0]}, *rows):
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


if __name__ == "__main__":
    sys.exit(main())
