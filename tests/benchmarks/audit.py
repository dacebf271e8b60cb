"""Which flaws do auditors find? Ours beside the peers, on rewards whose flaws are known.

    make bench-audit        (or: python -m tests.benchmarks.audit [--dims 3,16,64] [--seeds 4] ...)

The planted-flaw benchmark of `../shared/bench`, which this needs: mixtures of autoencoders that
endorse states they should not, trained on expert states alone (`organic`) or with 20 small clusters
far from support among them (`poison`), and a kernel reward with 20 needles (`patch`). Every
contestant has the same budget of reward queries, a gradient counts two, work inside the model is
billed. Columns, median over the search seeds with the lowest and the highest in brackets, which
with 4 seeds hold the true median with a probability of 87.5 %, with 6 of 97 %:

- `modes`: flaws farther than twice delta from each other. `ratio`: ours over the best peer's.
- `regions` (3 features): share of the flawed regions of a fine grid that were hit; `planted`: share
  of the planted clusters or needles that were hit.
- `first`: queries up to the first flaw. `wrong`: share of what is returned that is no flaw. What
  we return lies farther off than delta by the spacing of the expert states that an auditor knows;
  the truth is a distance to 25 times as many.
- `us`: CPU microseconds per query.

Peers that are not installed are left out; `make bench-audit` installs them. Names that begin with
`proto/` are yardsticks that come with the benchmark, not peers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

BENCH = Path(__file__).resolve().parents[3] / "shared" / "bench"
PEERS = (
    "scipy/basinhopping+L-BFGS-B",
    "foolbox/L2AdamPGD",
    "foolbox/L2AdamPGD tuned shell",
    "foolbox/L2AdamPGD tuned expert",
    "pyautoattack/APGD-L2",
    "torch/Adam uniform",
    "random/sobol",
    "proto/AE fixed point (structure-aware)",
)
OURS = ("iirl/default-chain",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", default="3,16,64")
    parser.add_argument("--kinds", default="organic,poison,patch")
    parser.add_argument("--task-seeds", default="0,1,2")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget", type=int, default=10_000)
    parser.add_argument("--only", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "iirl-bench-audit"))
    asked = parser.parse_args()
    if not BENCH.is_dir():
        sys.exit(f"this benchmark needs {BENCH}, which is not here")
    sys.path.insert(0, str(BENCH))
    torch.set_num_threads(1)

    from benchlib import contestants, planted, task

    import tests.benchmarks.contestants  # noqa: F401  registers ours

    task.CACHE = asked.cache
    names = [n for n in asked.only.split(",") if n in contestants.CONTESTANTS]
    for kind in asked.kinds.split(","):
        for d in map(int, asked.dims.split(",")):
            for task_seed in map(int, asked.task_seeds.split(",")):
                if kind == "patch" and task_seed > 0:
                    continue  # needles are placed, nothing is learned
                given = task.Task(d, kind, seed=task_seed)
                rows = {
                    name: [
                        one_run(planted, task, given, contestants.CONTESTANTS[name], seed, asked)
                        for seed in range(asked.seeds)
                    ]
                    for name in names
                    if not contestants.CONTESTANTS[name]["dims"]
                    or d in contestants.CONTESTANTS[name]["dims"]
                }
                show(f"d={d} {kind}, reward {task_seed}, {asked.budget:,} queries", rows)


def one_run(
    planted: Any, task: Any, given: Any, contestant: Any, seed: int, asked: Any
) -> dict[str, Any]:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the peers draw from it
    oracle = task.Oracle(given, asked.budget, 600.0)
    reports, error = None, None
    started = time.process_time()
    try:
        reports = contestant["fn"](given, oracle, np.random.default_rng(1000 + seed))
    except task.BudgetExhausted:
        pass
    except ImportError as missing:
        error = f"not installed: {missing.name}"
    spent = time.process_time() - started
    found: dict[str, Any] = planted.score(given, oracle, reports, error)
    return found | {"us": 1e6 * spent / max(1, oracle.cost)}


def show(title: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    columns = ("modes", "region_recall", "planted_recall", "first_cost", "returned_fp", "us")
    heads = ("modes", "regions", "planted", "first", "wrong", "us")
    installed = {name: runs for name, runs in rows.items() if not runs[0]["error"]}
    peers = [
        middle(runs, "modes") for name, runs in installed.items() if name.split("/")[0] in PEERED
    ]
    best = max((m for m in peers if m is not None), default=0.0)
    print(f"\n{title}\n{'':38s}" + "".join(f"{head:>18s}" for head in heads) + f"{'ratio':>8s}")
    for name, runs in rows.items():
        if runs[0]["error"]:
            print(f"{name:38s} {runs[0]['error']}")
            continue
        cells = "".join(f"{cell(runs, column):>18s}" for column in columns)
        modes = middle(runs, "modes")
        ratio = f"{modes / best:8.2f}" if name in OURS and best and modes is not None else ""
        print(f"{name:38s}{cells}{ratio}", flush=True)


PEERED = ("scipy", "foolbox", "pyautoattack", "torch", "random")


def middle(runs: list[dict[str, Any]], column: str) -> float | None:
    known = [run[column] for run in runs if run.get(column) is not None]
    return statistics.median(known) if known else None


def cell(runs: list[dict[str, Any]], column: str) -> str:
    known = [run[column] for run in runs if run.get(column) is not None]
    if not known:
        return "-"
    whole = column in ("modes", "first_cost", "us")
    low, median, high = (
        f"{value:.0f}" if whole else f"{value:.2f}"
        for value in (min(known), statistics.median(known), max(known))
    )
    missing = "" if len(known) == len(runs) else f" {len(known)}/{len(runs)}"
    return f"{median} [{low},{high}]{missing}"


if __name__ == "__main__":
    main()
