"""Ten turns of the flywheel on HalfCheetah: does a reward get worse while it is repaired?

    make bench-rounds         (or: python -m tests.benchmarks.rounds [--data DIR] [--rounds 10])

The chain is the one the docs recommend for repairs from verdicts: a `box` norm demands a speed of
1, which is what a person would add who is told that standing still pays, and another an upright
pose; auditors `trivial` and `pgd`, with fresh draws each round; refiners `halfspaces` and
`enclosing-balls`, which do not ask the norms; a round that finds nothing new ends the run early;
gates `known-good`, `closure` and `ordering`. It starts from `kernel-mean`, and from the mixture of
autoencoders as published, under which standing still earns more than the expert. The second half of
every policy's episodes is held out from the run and gives the columns, after each round:

- `confirmed`, `open`: flaws of the round, and flaws that the newest release still endorses;
- `order`: Spearman correlation, over policies, of the true return with the mean learned reward;
- `expert`: the expert's mean reward; `still`: that of standing still, and `least`: the lowest of a
  policy that runs, with a mean speed above 1. Standing still has to end below it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import iirl_engine as iirl
from iirl_engine.evaluation import spearman
from tests.benchmarks.constraints import halves
from tests.benchmarks.rollouts import EXPERT_STATES, SHARED, World, read

SPEED, RUNS = 8, 1.0
CHAIN = """
report = []
[flywheel]
rounds = {rounds}
seed = 0
[source]
use = "npz"
path = "demos.npz"
{encoder}
[[norm]]
use = "box"
id = "speed"
features = ["x8"]
low = [{speed}]
high = [99.0]
[[norm]]
use = "box"
id = "pitch"
features = ["x1"]
low = [-0.6]
high = [0.6]
[[audit]]
use = "trivial"
[[audit]]
use = "pgd"
budget = 512
[[refine]]
use = "halfspaces"
[[refine]]
use = "enclosing-balls"
[[gate]]
use = "known-good"
max_loss = 0.10
[[gate]]
use = "closure"
share = 0.0
[[gate]]
use = "ordering"
path = "policies/"
"""
ENCODERS = {
    "kernel-mean": """
[encoder]
use = "kernel-mean"
[mapping]
use = "exp"
steepness = 1.5
l_min = 0.0
l_max = 1.0
""",
    "moe-autoencoder": """
[encoder]
use = "moe-autoencoder"
standardize = true
[mapping]
use = "exp"
""",
}


def write(world: World, folder: Path) -> None:
    """Write demonstrations and graded policies: the first half of every policy's episodes."""
    seen, _, _ = halves(world)
    (folder / "policies").mkdir()
    for name, states in seen.items():
        lengths = world.lengths[name]
        lengths = lengths[: max(1, len(lengths) // 2)]
        np.savez(
            folder / "policies" / f"{name}.npz",
            states=states,
            ep_len=lengths,
            ep_ret=np.full(len(lengths), world.returns[name]),
        )
    expert = seen[world.expert]
    rows = np.random.default_rng(0).permutation(len(expert))[:EXPERT_STATES]
    expert = expert[np.sort(rows)]
    np.savez(folder / "demos.npz", states=expert)


def row(world: World, model: iirl.RewardModel) -> tuple[float, float, float, float]:
    """Return order, the expert's mean, that of standing still, and the least of who runs."""
    held = halves(world)[1]
    means = {name: float(model(states).mean()) for name, states in held.items()}
    names = sorted(means)
    order = spearman([means[n] for n in names], [world.returns[n] for n in names])
    runs = [n for n in names if n != "zero" and held[n][:, SPEED].mean() > RUNS]
    return order, means[world.expert], means["zero"], min(means[n] for n in runs)


def turned(world: World, encoder: str, rounds: int) -> None:
    """Run the flywheel and print what each round came to."""
    print(f"\n{world.name}, starting from {encoder}")
    print(f"{'round':>7}{'confirmed':>11}{'open':>7}" + "".join(f"{c:>9}" for c in COLUMNS))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(world, folder)
        text = CHAIN.format(rounds=rounds, encoder=ENCODERS[encoder], speed=RUNS)
        (folder / "chain.toml").write_text(text)
        outcome = iirl.Flywheel.from_file(folder / "chain.toml", out=folder / "run").run()
        newest = 0
        first = row(world, iirl.load_release(folder / "run" / "releases" / "0000"))
        now = first
        print(f"{0:>7}{'':>11}{'':>7}" + "".join(f"{v:>9.3f}" for v in first))
        orders = [first[0]]
        for done in outcome.rounds:
            if done.release is not None:
                newest = done.release
                now = row(world, iirl.load_release(folder / "run" / "releases" / f"{newest:04d}"))
            orders.append(now[0])
            numbers = "".join(f"{value:>9.3f}" for value in now)
            print(f"{done.number:>7}{done.confirmed:>11}{done.open:>7}{numbers}", flush=True)
        drop = max(max(orders[: i + 1]) - o for i, o in enumerate(orders))
        below = "below" if now[2] < now[3] else "NOT below"
        print(
            f"  order fell by at most {drop:.3f}; the expert lost {1 - now[1] / first[1]:.2%}; "
            f"standing still is {below} every policy that runs"
        )


COLUMNS = ("order", "expert", "still", "least")


def main() -> None:
    """Print a table for each start."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED / "loco_halfcheetah")
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"rounds: no such folder: {asked.data}; name rollouts with --data")
    torch.set_num_threads(1)
    for encoder in ENCODERS:
        turned(read(asked.data), encoder, asked.rounds)


if __name__ == "__main__":
    main()
