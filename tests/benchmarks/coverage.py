"""One steered budget or an equal share for each auditor: which finds more regions of flaws?

    make bench-coverage        (or: python -m tests.benchmarks.coverage [--budget N] [--seeds N])

A mixture of autoencoders is fitted on recorded expert states, and the same auditors look for flaws
with the same number of reward queries, medians over the seeds:

- `equal`: each auditor has an equal share of the budget.
- `best one`: the whole budget for the auditor that finds most, known only in hindsight.
- `coverage`: the auditor `coverage` spends the budget on all of them.

Counted are places: flaws, each farther from the others than the norm's boundary. `x equal` is the
factor over the equal shares, and `us` the CPU time per query, to be compared within one run only.

Needs ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iirl_auditors.blue_team.coverage import novel
from iirl_engine import Context, RewardModel
from iirl_engine.audit import AuditJob, run_audit
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugins
from iirl_engine.regions import region_scale
from iirl_engine.registry import Registry

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EXPERTS = {
    "pointmaze": "pointmaze/medium_expert.npz",
    "lunarlander": "lunarlander_heuristic/heuristic.npz",
    "halfcheetah": "loco_halfcheetah/tqc.npz",
}
MEMBERS = ("pgd", "ray", "gradient-flow", "monotone-escape", "sobol")
FLOOR = 0.01
STATES = 5000


def built(registry: Registry, kind: str, name: str, **options: Any) -> Any:
    entry = registry.find(kind, name)
    problems: list[Any] = []
    found = build_options(entry.offer.options, options, name, problems, None)
    assert found is not None, problems
    return entry.build(found)


def reward(registry: Registry, file: Path, seed: int) -> RewardModel:
    """Return a mixture of autoencoders learned from recorded expert states."""
    with np.load(file, allow_pickle=False) as arrays:
        data = check(arrays["obs"][:STATES].astype(np.float64))
    norm = built(registry, "norm", "support")
    norm.fit(data, Context("norm", "support", seed, 0))
    encoder = built(registry, "encoder", "moe-autoencoder", steps=300)
    encoder.fit(data, Context("encoder", "moe", seed, 0))
    mapping = built(registry, "mapping", "exp")
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, Context("mapping", "exp", seed, 0))
    return RewardModel(encoder, mapping, {"support": norm}, data, widened_range(data.states))


def places(model: RewardModel, reported: Sequence[np.ndarray[Any, Any]]) -> int:
    """Return how many of the reported flaws are farther apart than the norm's boundary."""
    states = np.concatenate(reported)
    flaws = torch.tensor(states[model.flawed(states, FLOOR)])
    return len(novel(flaws, flaws[:0], region_scale(model)))


def audited(auditor: Any, name: str, model: RewardModel, seed: int) -> Any:
    return run_audit(AuditJob(auditor, model, FLOOR, Context("audit", name, seed, 1)))


def compared(registry: Registry, model: RewardModel, budget: int, seed: int) -> list[float]:
    """Return places of equal shares, of the best one and of `coverage`, then their CPU us."""
    share = budget // len(MEMBERS)

    def member(name: str, queries: int) -> Any:
        return built(registry, "auditor", name, budget=queries)

    start = time.process_time()
    shares = [audited(member(name, share), name, model, seed) for name in MEMBERS]
    equal_time = time.process_time() - start
    alone = [audited(member(name, budget), name, model, seed) for name in MEMBERS]
    leader = built(registry, "auditor", "coverage", budget=budget, of=list(MEMBERS))
    leader.lead({name: member(name, budget) for name in MEMBERS})
    start = time.process_time()
    steered = audited(leader, "coverage", model, seed)
    steered_time = time.process_time() - start
    assert steered.queries <= budget, "the budget is kept to the query"
    return [
        places(model, [result.states for result in shares]),
        max(places(model, [result.states]) for result in alone),
        places(model, [steered.states]),
        1e6 * equal_time / budget,
        1e6 * steered_time / budget,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"there is no {DATA}: this benchmark needs the shared data")
    torch.set_num_threads(1)
    registry = Registry(Plugins())
    print(f"{asked.budget:,} reward queries, medians of {asked.seeds} seeds")
    heads = ("reward", "d", "equal", "best one", "coverage", "x equal", "us equal", "us coverage")
    print("{:12} {:>3} {:>7} {:>9} {:>9} {:>8} {:>9} {:>12}".format(*heads))
    for name, file in EXPERTS.items():
        models = [reward(registry, DATA / file, seed) for seed in range(asked.seeds)]
        rows = [compared(registry, m, asked.budget, seed) for seed, m in enumerate(models)]
        equal, best, steered, us_equal, us = (
            statistics.median(column) for column in zip(*rows, strict=True)
        )
        factor = statistics.median(row[2] / max(row[0], 1) for row in rows)
        print(
            f"{name:12} {models[0].width:3} {equal:7.0f} {best:9.0f} {steered:9.0f} {factor:8.2f} "
            f"{us_equal:9.0f} {us:12.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
