"""What refiner `unlearn` forgets and what it keeps, beside a fit that never saw what is forgotten.

    make bench-unlearning    (or: python -m tests.benchmarks.unlearning [--data DIR ...])

Among 3,000 expert states of a world (folders as for `make bench-quality`) lie 500 of a policy at
the middle of the returns, by mistake. `unlearn` is told their rows. Columns, medians over the
seeds, of `apart` and `seeds` the greatest; rewards lie in [0, 1]:

- `learned`, `forgot`, `refit`: mean reward of 2,000 other states of that policy, before, after,
  and of the fit on the 3,000 alone with the chain's own seed (forget quality: `forgot` is to be
  what `refit` is);
- the same three for 2,000 held-out states of the expert (retained quality);
- `apart`: the greatest difference between `forgot` and `refit` at any of these states; for exact
  kinds it is to be below 1e-6;
- `seeds`: the greatest difference between two refits with different seeds: a refit is known no
  better than that, and an inexact kind is to stay within it;
- `cost`: CPU seconds of forgetting over those of fitting anew.

An encoder that cannot unlearn is fitted anew on the rest (`refit = true`), with a seed of its own.
"""

from __future__ import annotations

import statistics
import time

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine import Context, Repair, RewardModel
from iirl_engine.audit import no_flaws
from iirl_engine.plugins import Plugins
from iirl_engine.registry import Registry
from iirl_refiners.options import UnlearnOptions
from iirl_refiners.unlearn import Unlearn
from tests.benchmarks.quality import NEGATIVES, POSITIVES, Recipe, ours
from tests.benchmarks.rollouts import World, arguments, read

Array = NDArray[np.float64]

EXPERT, STRAY, PROBES = 3000, 500, 2000
# Name -> recipe, and whether it is given the states of the random policy as negatives.
RECIPES = {name: (recipe, False) for name, recipe in POSITIVES.items()} | {
    f"{name}, negatives": (recipe, True) for name, recipe in NEGATIVES.items()
}


@attrs.frozen
class Row:
    """What forgetting came to with one seed: three means for each kind of state, and the rest."""

    stray: tuple[float, float, float]
    expert: tuple[float, float, float]
    apart: float
    seeds: float
    cost: float


def median_policy(world: World) -> str:
    """Return the policy in the middle of the returns."""
    ranked = sorted(world.returns, key=world.returns.__getitem__)
    return ranked[len(ranked) // 2]


def measured(world: World, recipe: Recipe, negatives: bool, registry: Registry, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    pool, other = world.states[world.expert], world.states[median_policy(world)]
    rows, strays = (rng.permutation(len(states)) for states in (pool, other))
    expert, stray = pool[rows[:EXPERT]], other[strays[:STRAY]]
    kept_out = pool[rows[EXPERT : EXPERT + PROBES]], other[strays[STRAY : STRAY + PROBES]]
    learn = ours(recipe, registry)
    beside = world.states["random"] if negatives else np.empty((0, pool.shape[1]))
    learned = learn(np.concatenate([expert, stray]), beside, seed)
    started = time.process_time()
    refit = learn(expert, beside, seed)
    fit = time.process_time() - started
    again = learn(expert, beside, seed + 1000)

    asked = UnlearnOptions(rows=tuple(range(EXPERT, EXPERT + STRAY)), refit=True, max_loss=1.0)
    repair = Repair(
        model=learned,
        flaws=no_flaws(learned.width),
        closed=np.empty((0, learned.width)),
        known_good=expert,
        original=learned(expert),
        floor=0.01,
    )
    started = time.process_time()
    proposal = Unlearn(asked).propose(repair, Context("refine", "unlearn", seed, 1))
    spent = time.process_time() - started
    forgot = learned.with_corrections(proposal.corrections)

    def means(states: Array) -> tuple[float, float, float]:
        low, middle, high = (float(m(states).mean()) for m in (learned, forgot, refit))
        return low, middle, high

    everything = np.concatenate(kept_out)

    def apart(one: RewardModel, two: RewardModel) -> float:
        return float(np.abs(one(everything) - two(everything)).max())

    return Row(
        means(kept_out[1]),
        means(kept_out[0]),
        apart(forgot, refit),
        apart(refit, again),
        spent / fit,
    )


def main() -> None:
    """Print one line per encoder and world."""
    given = arguments(__doc__, seeds=3)
    registry = Registry(Plugins())
    for folder in given.data:
        world = read(folder)
        print(
            f"\n{world.name}: {STRAY} states of {median_policy(world)} among {EXPERT} expert ones"
        )
        print(f"  {'':<24}{'states of that policy':^24}{'held-out expert states':^24}")
        print(f"  {'':<24}" + f"{'learned':>8}{'forgot':>8}{'refit':>8}" * 2, end="")
        print(f"{'apart':>10}{'seeds':>10}{'cost':>7}")
        for name, (recipe, negatives) in RECIPES.items():
            rows = [
                measured(world, recipe, negatives, registry, seed) for seed in range(given.seeds)
            ]
            exact = registry.find("encoder", recipe[0]).load().abilities.unlearning
            print(f"  {name + ('' if exact else ' *'):<24}", end="")
            for kind in ("stray", "expert"):
                for values in zip(*(getattr(row, kind) for row in rows), strict=True):
                    print(f"{statistics.median(values):>8.3f}", end="")
            apart, seeds = (max(getattr(row, what) for row in rows) for what in ("apart", "seeds"))
            cost = statistics.median(row.cost for row in rows)
            print(f"{apart:>10.1e}{seeds:>10.1e}{cost:>7.2f}", flush=True)
    print("\n* cannot unlearn exactly: fitted anew on the rest, with another seed")


if __name__ == "__main__":
    main()
