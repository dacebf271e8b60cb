"""Does a repair close the region or only the flaws that were seen? Few labels of large regions.

    make bench-refine        (or: python -m tests.benchmarks.refine [--seeds 5] [--dims 3 16 64])

Each world has expert states on a curved surface in d features and one flawed region of every kind,
3,000 states each, which a mixture of autoencoders learned to take for expert because 400 of them
were among what it was fitted on:

- `cluster`: a small Gaussian cluster far from the experts, `wide`: a long one;
- `limit`: like the experts, but one feature beyond all of theirs, `linear`: so in a combination
  of two features;
- `enclosed`: a ball in the largest hole that was found among the experts;
- `sheet`: the experts' surface where it goes on beyond them.

50 flaws of every region are labelled; which region is not told. Columns: the share of the rest of
each region that a repair closes (R <= 0.01), of all regions together, and what it costs held-out
experts: `lost`, the share of their mean reward, and `hit`, the share of them that lose more than
0.05. Each cell is the median over the seeds with the range. The last two are re-implementations:
the reference's greedy rule with kernels in the latent space of the encoder, and a veto of states
whose nearest labelled state is a flaw.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from iirl_engine import Context, Flaws, Repair, RewardModel
from iirl_engine.audit import verify
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugins
from iirl_engine.records import AuditResult
from iirl_engine.registry import Registry

Array = NDArray[np.float64]
Reward = Callable[[Array], Array]

FLOOR = 0.01
EXPERTS, MEMBERS, LEARNED, LABELLED = 4000, 3000, 400, 50
KINDS = ("cluster", "wide", "limit", "linear", "enclosed", "sheet")
CHAINS: dict[str, tuple[str, ...]] = {
    "halfspaces, enclosing-balls": ("halfspaces", "enclosing-balls"),
    "halfspaces": ("halfspaces",),
    "enclosing-balls": ("enclosing-balls",),
    "kernel-greedy": ("kernel-greedy",),
}
REGISTRY = Registry(Plugins())


class Surface:
    """Expert states: a smooth q-dimensional surface in d features, with a little noise."""

    def __init__(self, d: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.q = {3: 2, 16: 3}.get(d, 4)
        k = max(2 * self.q, 4)
        self.flat = np.linalg.qr(rng.standard_normal((d, self.q)))[0]
        bent = rng.standard_normal((d, k))
        self.bent = bent / np.linalg.norm(bent, axis=0)
        self.waves, self.phases = 1.6 * rng.standard_normal((k, self.q)), rng.uniform(0, 6.28, k)
        self.middle, self.size = np.zeros(d), 1.0
        some = self.at(rng.uniform(-1, 1, (20_000, self.q)))
        self.middle = some.mean(axis=0)
        self.size = 1.2 / float(np.quantile(np.abs(some - self.middle).max(axis=1), 0.99))

    def at(self, z: Array) -> Array:
        found = z @ self.flat.T + 0.45 * np.sin(z @ self.waves.T + self.phases) @ self.bent.T
        return np.asarray((found - self.middle) * self.size)

    def sample(self, n: int, rng: np.random.Generator, beyond: bool = False) -> Array:
        z = rng.uniform(-1, 1, (n, self.q))
        if beyond:
            z[:, 0] = rng.uniform(1.3, 2.0, n)
        return self.at(z) + 0.02 * rng.standard_normal((n, len(self.middle)))


def region(kind: str, surface: Surface, experts: Array, rng: np.random.Generator) -> Array:
    """Return the members of a flawed region, all of them unlike every expert."""
    d, tree = experts.shape[1], cKDTree(experts)
    apart = float(np.quantile(tree.query(surface.sample(500, rng))[0], 0.999))
    normal = np.zeros(d)
    if kind in ("cluster", "wide"):
        size = (0.08 if d == 3 else 0.03) * np.ones(d)
        if kind == "wide":
            size = rng.uniform(0.02, 0.15 if d == 3 else 0.3, d)
        while True:
            members = rng.uniform(-2.5, 2.5, d) + size * rng.standard_normal((MEMBERS, d))
            if tree.query(members[:300])[0].min() > 2 * apart:
                return np.asarray(members)
    if kind == "enclosed":
        some = experts[rng.integers(len(experts), size=(4000, d + 1))].mean(axis=1)
        some += 0.3 * apart * rng.standard_normal(some.shape)
        distance = tree.query(some)[0]
        way = rng.standard_normal((MEMBERS, d))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        radii = 0.7 * distance.max() * rng.uniform(0, 1, (MEMBERS, 1)) ** (1 / d)
        return np.asarray(some[distance.argmax()] + radii * way)
    if kind == "sheet":
        members = surface.sample(8 * MEMBERS, rng, beyond=True)
        return np.asarray(members[tree.query(members)[0] > apart][:MEMBERS])
    columns = rng.choice(d, 1 if kind == "limit" else 2, replace=False)
    normal[columns] = (1.0, -0.7)[: len(columns)]
    normal /= np.linalg.norm(normal)
    members = surface.sample(MEMBERS, rng)
    beyond = (experts @ normal).max() + 0.1 + np.abs(0.4 * rng.standard_normal(MEMBERS))
    return np.asarray(members + (beyond - members @ normal)[:, None] * normal)


@attrs.frozen(eq=False)
class World:
    """A reward, the labelled flaws, and what was held out: members of each region, and experts."""

    repair: Repair
    members: dict[str, Array]
    experts: Array


def built(kind: str, name: str, given: dict[str, Any]) -> Any:
    entry = REGISTRY.find(kind, name)
    problems: list[Any] = []
    made = entry.build(build_options(entry.offer.options, given, kind, problems, None))
    assert not problems, problems
    return made


def world(d: int, seed: int) -> World:
    rng, surface = np.random.default_rng(seed), Surface(d, 100 + seed)
    experts, held_out = surface.sample(EXPERTS, rng), surface.sample(EXPERTS, rng)
    regions = {kind: region(kind, surface, experts, rng) for kind in KINDS}
    seen = check(np.concatenate([experts, *(m[:LEARNED] for m in regions.values())]))
    encoder, mapping = built("encoder", "moe-autoencoder", {}), built("mapping", "exp", {})
    encoder.fit(seen, Context("encoder", "moe-autoencoder", seed, 0))
    with torch.no_grad():
        mapping.fit(
            encoder.encode(torch.tensor(seen.states)).loss, Context("mapping", "exp", seed, 0)
        )
    data = check(experts)
    norm = SupportNorm(SupportOptions(boundary=1e-6))  # the labels say what is good and what not
    norm.fit(data, Context("norm", "support", seed, 0))
    domain = widened_range(seen.states)
    model = RewardModel(encoder, mapping, {"support": norm}, data, domain)
    endorsed = {kind: m[LEARNED:][model(m[LEARNED:]) > FLOOR] for kind, m in regions.items()}
    labelled = np.concatenate([m[:LABELLED] for m in endorsed.values()])
    labelled = labelled[rng.permutation(len(labelled))]
    found = AuditResult("labels", "findings", labelled, len(labelled), 0.0)
    flaws: Flaws = verify([found], model, FLOOR, ())[0].new
    original = model(experts)
    repair = Repair(model, flaws, np.empty((0, d)), experts, original, FLOOR)
    return World(repair, {kind: m[LABELLED:] for kind, m in endorsed.items()}, held_out)


def repaired(names: Sequence[str], given: World, seed: int) -> tuple[Reward, int]:
    """Return the reward after some refiners in turn, and how many corrections it has."""
    model, repair = given.repair.model, given.repair
    for name in names:
        left = np.flatnonzero(model(repair.flaws.states) > FLOOR)
        asked = attrs.evolve(repair, model=model, flaws=repair.flaws.take(left))
        said = built("refiner", name, {}).propose(asked, Context("refine", name, seed, 1))
        model = model.with_corrections(getattr(said, "corrections", said))
    return model, sum(c.count for c in model.corrections)


def greedy_latent(given: World) -> tuple[Reward, int]:
    """The reference's rule: a Gaussian kernel in the latent space for each flaw not yet covered.

    The bandwidth is half of how far the flaw lies from the nearest known-good code, and shrinks
    until the kernels so far take no more than 0.10 of any known-good state.
    """
    model = given.repair.model

    def codes(states: Array) -> Array:
        with torch.no_grad():
            return model.encoder.encode(torch.tensor(states)).features.numpy()

    good, flaws = codes(given.repair.known_good), codes(given.repair.flaws.states)
    rewards = model(given.repair.flaws.states)
    covered, taken = np.zeros(len(flaws)), np.zeros(len(good))
    kept: list[tuple[Array, float]] = []
    for row, code in enumerate(flaws):
        if rewards[row] - covered[row] <= FLOOR:
            continue
        apart = cdist(code[None], good)[0]
        width = max(0.5 * float(apart.min()), 1e-3)
        width = min(width, 0.9 * float(apart.min()) / math.sqrt(-2 * math.log(0.10)) + 1e-3)
        for _ in range(12):
            if (taken + np.exp(-((apart / width) ** 2) / 2)).max() <= 0.10:
                break
            width *= 0.7
        else:
            continue
        kept.append((code, width))
        taken += np.exp(-((apart / width) ** 2) / 2)
        covered += np.exp(-((cdist(code[None], flaws)[0] / width) ** 2) / 2)

    def reward(states: Array) -> Array:
        z, left = codes(states), model(states)
        for code, width in kept:
            left = left - np.exp(-np.square((z - code) / width).sum(axis=1) / 2)
        return np.asarray(left.clip(0, 1))

    return reward, len(kept)


def veto(given: World) -> tuple[Reward, int]:
    """No reward where the nearest labelled state is a flaw."""
    model = given.repair.model
    flaws, good = cKDTree(given.repair.flaws.states), cKDTree(given.repair.known_good)

    def reward(states: Array) -> Array:
        vetoed = flaws.query(states)[0] < good.query(states)[0]
        return np.asarray(np.where(vetoed, 0.0, model(states)))

    return reward, len(given.repair.flaws)


def measured(name: str, given: World, seed: int) -> dict[str, float]:
    started = time.process_time()
    if name in CHAINS:
        reward, count = repaired(CHAINS[name], given, seed)
    else:
        reward, count = (greedy_latent if name == "latent greedy" else veto)(given)
    spent = time.process_time() - started
    before, after = given.repair.model(given.experts), reward(given.experts)
    closed = {kind: reward(states) <= FLOOR for kind, states in given.members.items()}
    return {
        **{kind: float(c.mean()) for kind, c in closed.items()},
        "all": float(np.concatenate(list(closed.values())).mean()),
        "lost": 1 - float(after.mean() / before.mean()),
        "hit": float((before - after > 0.05).mean()),
        "count": float(count),
        "s": spent,
    }


def cell(values: list[float], column: str) -> str:
    style = {"count": ".0f", "s": ".1f"}.get(column, ".1%")
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{style}} [{low:{style}},{high:{style}}]".replace("%", "")


def main() -> None:
    """Print a table for each number of features."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", type=int, nargs="*", default=[3, 16, 64])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = [*CHAINS, "latent greedy", "nearest-neighbour veto"]
    for d in asked.dims:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for seed in range(asked.seeds):
            given = world(d, seed)
            for name in names:
                runs[name].append(measured(name, given, seed))
        columns = (*KINDS, "all", "lost", "hit", "count", "s")
        print(f"\nd = {d}, {asked.seeds} seeds; per cent, but for corrections and CPU seconds")
        print(" " * 28 + "".join(f"{column:>18}" for column in columns))
        for name, rows in runs.items():
            cells = [cell([row[column] for row in rows], column) for column in columns]
            print(f"{name:<28}" + "".join(f"{c:>18}" for c in cells), flush=True)


if __name__ == "__main__":
    main()
