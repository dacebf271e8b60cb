"""Constraints on locomotion that a refiner sees only as verdicts: does it find them?

    make bench-constraints    (or: python -m tests.benchmarks.constraints [--data DIR ...])

The reward is the one the docs recommend, `kernel-mean` on 5,000 expert states, on the rollouts of
13 policies in each world (folders as for `make bench-quality`). Norms limit speed, height, pitch
and the rates of joints; the refiner knows none of them. It is given 200 flaws that they confirm,
drawn from half of every policy's episodes, and the expert states that they allow. Columns, on the
other half of the episodes, medians over the seeds and, in brackets, the least good seed:

- `closed`: the fall of the number of states that violate a norm with R > floor;
- `expert`: the fall of the expert's mean reward;
- `other`: the fall of the mean reward of states that violate no norm, all policies together;
- `return`, `mean`: the change of the Spearman correlation, over policies, of the true return with
  the learned return of an episode, and with the mean learned reward of a state;
- `count`: corrections.

`norm-mask` is told the norms, and so shows what they themselves do to the order of the policies.
"""

from __future__ import annotations

import statistics

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Context, Repair
from iirl_engine.api import Norm
from iirl_engine.audit import verify
from iirl_engine.builtin.norms import BoxNorm, LinearNorm
from iirl_engine.builtin.options import BoxOptions, LinearOptions
from iirl_engine.demonstrations import check
from iirl_engine.evaluation import spearman
from iirl_engine.records import AuditResult
from tests.benchmarks.quality import POSITIVES, ours
from tests.benchmarks.refine import CHAINS, FLOOR, REGISTRY, Reward, repaired, veto
from tests.benchmarks.refine import World as Case
from tests.benchmarks.rollouts import EXPERT_STATES, World, arguments, read

Array = NDArray[np.float64]

FLAWS = 200
# Feature columns, low, high.
Limits = dict[str, tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]]
LIMITS: dict[str, Limits] = {
    "loco_halfcheetah": {
        "speed": ((8,), (1.0,), (15.5,)),
        "height": ((0,), (-0.25,), (0.3,)),
        "pitch": ((1,), (-0.6,), (0.6,)),
        "joint-rates": (tuple(range(11, 17)), (-29.0,) * 6, (29.0,) * 6),
    },
    "loco_hopper": {
        "speed": ((5,), (0.2,), (4.0,)),
        "height": ((0,), (1.0,), (1.68,)),
        "pitch": ((1,), (-0.1,), (0.18,)),
        "joint-rates": ((7, 8, 9), (-3.0, -6.0, -9.5), (3.0, 8.0, 9.5)),
    },
}
# Leaning and turning further at once: pitch + 0.05 of its rate.
LEAN: dict[str, tuple[int, int, float]] = {
    "loco_halfcheetah": (1, 10, 0.6),
    "loco_hopper": (1, 6, 0.25),
}


def norms(world: World) -> dict[str, Norm[object]]:
    """Return the norms of a world, by name."""
    width = world.states[world.expert].shape[1]
    data = check(np.zeros((1, width)))
    found: dict[str, Norm[object]] = {}
    for name, (columns, low, high) in LIMITS[world.name].items():
        features = tuple(f"x{column}" for column in columns)
        found[name] = BoxNorm(BoxOptions(features=features, low=low, high=high))
    pitch, rate, most = LEAN[world.name]
    a = np.zeros(width)
    a[pitch], a[rate] = 1.0, 0.05
    found["lean"] = LinearNorm(LinearOptions(a=tuple(a.tolist()), b=most))
    for name, norm in found.items():
        norm.fit(data, Context("norm", name, 0, 0))
    return found


def halves(world: World) -> tuple[dict[str, Array], dict[str, Array], dict[str, int]]:
    """Return each policy's states of the first and second half of its episodes, and their number.

    The number is that of the episodes in the second half.
    """
    first, second, counts = {}, {}, {}
    for name, states in world.states.items():
        ends = np.cumsum(world.lengths[name])
        middle = max(1, len(ends) // 2)
        first[name], second[name] = states[: ends[middle - 1]], states[ends[middle - 1] :]
        counts[name] = len(ends) - middle
    return first, second, counts


@attrs.frozen(eq=False)
class Held:
    """What a repair is judged by."""

    states: dict[str, Array]
    forbidden: dict[str, NDArray[np.bool_]]
    episodes: dict[str, int]


def case(world: World, seed: int) -> tuple[Case, Held]:
    seen, held, episodes = halves(world)
    rng, limits = np.random.default_rng(seed), norms(world)

    def violates(states: Array) -> NDArray[np.bool_]:
        found = [norm.violation(torch.tensor(states)).numpy() > 0 for norm in limits.values()]
        return np.asarray(np.any(found, axis=0))

    pool = seen[world.expert]
    pool = pool[~violates(pool)]
    expert = pool[np.sort(rng.permutation(len(pool))[:EXPERT_STATES])]
    model = ours(POSITIVES["kernel-mean"], REGISTRY)(expert, np.empty((0, pool.shape[1])), seed)
    judge = model.evolve(norms=limits)
    everything = np.concatenate([seen[name] for name in sorted(seen)])
    flawed = everything[judge.flawed(everything, FLOOR)]
    chosen = flawed[rng.permutation(len(flawed))[:FLAWS]]
    found = AuditResult("verdicts", "findings", chosen, len(chosen), 0.0)
    flaws = verify([found], judge, FLOOR, ())[0].new
    repair = Repair(model, flaws, flaws.states[:0], expert, model(expert), FLOOR)
    forbidden = {name: violates(states) for name, states in held.items()}
    return Case(repair, {}, held[world.expert]), Held(held, forbidden, episodes)


def judged(world: World, given: Case, held: Held, reward: Reward) -> dict[str, float]:
    names = sorted(held.states)
    true = [world.returns[name] for name in names]

    def told(model: Reward) -> dict[str, float]:
        answers = {name: model(held.states[name]) for name in names}
        open_ = [int((answers[n][held.forbidden[n]] > FLOOR).sum()) for n in names]
        allowed = np.concatenate([answers[n][~held.forbidden[n]] for n in names])
        sums = [float(answers[n].sum() / held.episodes[n]) for n in names]
        return {
            "open": float(sum(open_)),
            "expert": float(answers[world.expert].mean()),
            "other": float(allowed.mean()),
            "return": spearman(sums, true),
            "mean": spearman([float(answers[n].mean()) for n in names], true),
        }

    before, after = told(given.repair.model), told(reward)
    return {
        "closed": 1 - after["open"] / before["open"],
        "expert": 1 - after["expert"] / before["expert"],
        "other": 1 - after["other"] / before["other"],
        "return": after["return"] - before["return"],
        "mean": after["mean"] - before["mean"],
    }


COLUMNS = {"closed": min, "expert": max, "other": max, "return": min, "mean": min}


def main() -> None:
    """Print a table for each world."""
    given = arguments(__doc__, seeds=5)
    for folder in given.data:
        world = read(folder)
        names = ["halfspaces, enclosing-balls", "halfspaces", "kernel-greedy"]
        runs: dict[str, list[dict[str, float]]] = {}
        for seed in range(given.seeds):
            given, held = case(world, seed)
            told = attrs.evolve(
                given,
                repair=attrs.evolve(
                    given.repair, model=given.repair.model.evolve(norms=norms(world))
                ),
            )
            rewards = {name: repaired(CHAINS[name], given, seed) for name in names}
            rewards["nearest-neighbour veto"] = veto(given)
            rewards["norm-mask, told the norms"] = repaired(("norm-mask",), told, seed)
            for name, (reward, count) in rewards.items():
                row = judged(world, given, held, reward) | {"count": float(count)}
                runs.setdefault(name, []).append(row)
        share = np.mean([f.mean() for f in held.forbidden.values()])
        print(
            f"\n{world.name}: expert {world.expert}, {given.seeds} seeds; {share:.0%} of the "
            f"states violate a norm, {held.forbidden[world.expert].mean():.1%} of the expert's"
        )
        print(" " * 28 + "".join(f"{column:>19}" for column in (*COLUMNS, "count")))
        for name, rows in runs.items():
            cells = ""
            for column, worst in COLUMNS.items():
                values = [row[column] for row in rows]
                style = ".3f" if column in ("return", "mean") else ".2%"
                middle, least = statistics.median(values), worst(values)
                cells += f"{f'{middle:{style}} [{least:{style}}]':>19}"
            count = statistics.median(row["count"] for row in rows)
            print(f"{name:<28}{cells}{count:>19.0f}", flush=True)


if __name__ == "__main__":
    main()
