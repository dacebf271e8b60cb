"""Do rewards order policies rightly? Ours beside re-implementations of what others would use.

    make bench-quality        (or: python -m tests.benchmarks.quality [--data DIR ...])

Each folder holds the rollouts of policies of graded quality; the best of them is the expert. Every
method sees 5,000 of its states and, in the lower half, the states of `random` as negatives. The
columns, medians over the seeds:

- `return`, `mean`: Spearman correlation over the policies of the true return with the learned
  return per episode, and with the mean learned reward of a state.
- `EPIC`: distance of the learned from the true reward, sqrt((1 - Pearson) / 2) over all states.
- `zero`: mean reward of standing still (policy `zero`), from 0, the least of any policy, to 1, the
  most; `!` where a competent policy, with half the best return or more, has no higher mean.
- `flat`: share of the way from start states to expert states where the reward has no slope.
- `fit`: CPU seconds; compare them within one run only. GAIL takes 59 of them at 150,000 steps.

The true return and reward are recorded; no method sees them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import Context, RewardModel
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.evaluation import pearson_distance, spearman
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugins
from iirl_engine.registry import Registry
from tests.benchmarks import baselines
from tests.benchmarks.rollouts import EXPERT_STATES, World, arguments, read

GAIL = 59.0
# Encoder, its options, mapping, its options. The first of each half is what the docs recommend.
Recipe = tuple[str, dict[str, object], str, dict[str, object]]
DENSITY = ("exp", {"steepness": 1.5, "l_min": 0.0, "l_max": 1.0})
POSITIVES: dict[str, Recipe] = {
    "kernel-mean": ("kernel-mean", {}, *DENSITY),
    "kernel-mean, two widths": (
        "kernel-mean",
        {"widths": [0.25, 0.5]},
        "exp",
        {"l_min": 0.0, "l_max": 1.0},
    ),
    "kernel-mean, 2048 features": ("kernel-mean", {"features": 2048}, *DENSITY),
    "moe-autoencoder": ("moe-autoencoder", {"standardize": True}, "exp", {}),
    "knn": ("knn", {"standardize": True}, "exp", {}),
    "rnd": ("rnd", {}, "exp", {}),
    "flow": ("flow", {}, "exp", {}),
    "energy": ("energy", {}, "exp", {"l_min": 0.0, "l_max": 1.0}),
}
NEGATIVES: dict[str, Recipe] = {
    "mmd-witness": ("mmd-witness", {}, "exp", {"l_min": 0.0, "l_max": 1.0}),
    "energy": ("energy", {}, "exp", {"l_min": 0.0, "l_max": 1.0}),
}

Array = NDArray[np.float64]


@attrs.frozen
class Row:
    """What one method came to with one seed."""

    by_return: float
    by_mean: float
    epic: float
    zero: float
    fooled: bool
    flat: float
    fit: float


def ours(recipe: Recipe, registry: Registry) -> Callable[[Array, Array, int], RewardModel]:
    def fit(expert: Array, negatives: Array, seed: int) -> RewardModel:
        data = check(expert, negatives=negatives)
        parts = []
        for kind, name, given in (("encoder", *recipe[:2]), ("mapping", *recipe[2:])):
            entry = registry.find(kind, name)
            problems: list[object] = []
            parts.append(
                entry.build(build_options(entry.offer.options, given, kind, problems, None))
            )
            assert not problems, problems
        encoder, mapping = parts
        encoder.fit(data, Context("encoder", recipe[0], seed, 0))
        with torch.no_grad():
            loss = encoder.encode(torch.tensor(expert)).loss
        mapping.fit(loss, Context("mapping", recipe[2], seed, 0))
        return RewardModel(encoder, mapping, {}, data, widened_range(expert))

    return fit


def theirs(fit: baselines.Fit) -> Callable[[Array, Array, int], Callable[[Tensor], Tensor]]:
    return lambda expert, negatives, seed: fit(torch.tensor(expert), torch.tensor(negatives), seed)


def judge(world: World, learn: Callable[..., object], seed: int, *, negatives: bool) -> Row:
    pool = world.states[world.expert]
    chosen = np.random.default_rng(seed).permutation(len(pool))[:EXPERT_STATES]
    beside = world.states["random"] if negatives else np.empty((0, pool.shape[1]))
    started = time.process_time()
    learned = learn(pool[np.sort(chosen)], beside, seed)
    spent = time.process_time() - started
    score = learned.reward if isinstance(learned, RewardModel) else learned
    assert callable(score)
    with torch.no_grad():
        given = {name: score(torch.tensor(states)).numpy() for name, states in world.states.items()}
    names = sorted(world.returns)
    true = [world.returns[name] for name in names]
    means = {name: float(given[name].mean()) for name in names}
    # A reward may be below 0 in a baseline; a return then needs the same origin for all.
    least = min(float(r.min()) for r in given.values())
    sums = [float((given[n] - least).sum() / len(world.lengths[n])) for n in names]
    span = max(means.values()) - min(means.values())
    competent = [n for n in names if world.returns[n] >= max(true) / 2]
    return Row(
        by_return=spearman(sums, true),
        by_mean=spearman([means[n] for n in names], true),
        epic=pearson_distance(
            np.concatenate([given[n] for n in names]),
            np.concatenate([world.rewards[n] for n in names]),
        ),
        zero=(means["zero"] - min(means.values())) / span,
        fooled=any(means[n] <= means["zero"] for n in competent),
        flat=flatness(score, world, seed),
        fit=spent,
    )


def flatness(score: Callable[[Tensor], Tensor], world: World, seed: int) -> float:
    """Return the share of straight ways from starts to expert states where the slope is flat.

    The slope is the reward's change over a sixteenth of the way, in units of its range over all
    expert states and starts; below 1e-3 a learner sees nothing.
    """
    rng = np.random.default_rng(seed)
    firsts = [
        states[np.cumsum(world.lengths[name]) - world.lengths[name]]
        for name, states in world.states.items()
    ]
    starts = np.concatenate(firsts)
    starts = starts[rng.integers(len(starts), size=64)]
    expert = world.states[world.expert]
    goals = expert[rng.integers(len(expert), size=64)]
    share = np.linspace(0, 1, 17)[:, None, None]
    way = (1 - share) * starts + share * goals
    with torch.no_grad():
        along = score(torch.tensor(way.reshape(-1, way.shape[2]))).numpy().reshape(way.shape[:2])
    return float((np.abs(np.diff(along, axis=0)) < 1e-3 * np.ptp(along)).mean())


def show(name: str, rows: list[Row]) -> None:
    def middle(field: str) -> float:
        return statistics.median(getattr(row, field) for row in rows)

    fit = middle("fit")
    print(
        f"  {name:<30}{middle('by_return'):>8.3f}{middle('by_mean'):>7.3f}{middle('epic'):>7.3f}"
        f"{middle('zero'):>7.2f}{'!' if any(r.fooled for r in rows) else ' '}"
        f"{middle('flat'):>6.2f}{fit:>8.2f}{GAIL / max(fit, 1e-3):>7.0f}x",
        flush=True,
    )


def main() -> None:
    given = arguments(__doc__, seeds=3)
    registry = Registry(Plugins())
    for folder in given.data:
        world = read(folder)
        print(f"\n{world.name}: {len(world.returns)} policies, expert {world.expert}")
        head = ("return", "mean", "EPIC", "zero", "flat", "fit", "GAIL/fit")
        print(
            f"  {'':<30}{head[0]:>8}{head[1]:>7}{head[2]:>7}{head[3]:>7}{head[4]:>7}"
            f"{head[5]:>8}{head[6]:>9}"
        )
        for title, us, others, negatives in (
            ("positives only", POSITIVES, baselines.POSITIVES, False),
            ("random-policy negatives", NEGATIVES, baselines.NEGATIVES, True),
        ):
            print(f" {title}, ours")
            for name, recipe in us.items():
                learn = ours(recipe, registry)
                show(
                    name, [judge(world, learn, s, negatives=negatives) for s in range(given.seeds)]
                )
            print(f" {title}, baselines")
            for name, fit in others.items():
                learn = theirs(fit)
                show(
                    name, [judge(world, learn, s, negatives=negatives) for s in range(given.seeds)]
                )


if __name__ == "__main__":
    main()
