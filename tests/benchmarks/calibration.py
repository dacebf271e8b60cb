"""Do the out-of-distribution detectors keep the error rate they state, and what do they find?

    make bench-calibration    (or: python -m tests.benchmarks.calibration [--data DIR] [--splits N])

Needs recorded data (../shared/data, or --data). In each of 20 splits of each data set up to 400
expert states are set aside; detectors are fitted and calibrated on the others as the auditors do it
(`iirl_engine.conformal.split`), and judge them at FDR 0.05. Clean states that are called
out-of-distribution are false discoveries. Three ways to split and to count:

- states: single states are set aside, and p-values count states. All states of a split are
  exchangeable, as the theory asks.
- episodes: whole episodes are set aside, and p-values count episodes (the auditors' default where
  episodes are known). Holds too, but takes many episodes: the smallest p-value is one over the
  number of calibration episodes plus one, and with fewer than 19 nothing can be discovered.
- mismatch: the splits of "episodes", but p-values count states (`by_episode = false`). States of
  one episode resemble each other, and the rate is not promised.

First tables, one row per data set and one column per detector, means over the splits:

- FDP clean: of the clean states alone, share of splits in which something is discovered. Every
  discovery is false then, so this is the mean false discovery proportion.
- FDP: mean false discovery proportion with 100 strange states added, a random policy's in one
  trial and mixed ones in another, which take each feature from another expert state.
- power policy, power mixed: share of the 100 that is discovered. Some states of a random policy are
  like the expert's, such as those at the start.
- called: share discovered of 1,000 states as the auditors propose them. What of these is strange
  nobody knows; it is what the auditors have from their p-values.
- native FDP, native power: both trials by the detector's own flags, scikit-learn's
  `contamination = 0.05`: the 5 % most unlike of the states it was fitted on set the threshold. For
  detectors without such flags the same rule is applied to their scores.

Last table, rates over all data sets, one search per split, all states clean unless said otherwise;
share of the searches whose result is significant at 0.05:

- ordinary: the best of 32 states by its own p-value, which is invalid here.
- best of: the same by `best_of_p_values`. found: where one of the 32 is a random policy's.
- climb: an adaptive search among 30 states, from a state to the neighbour with the highest score
  while it rises, by `best_of_p_values` and the number of states it scored, which is invalid too.
- own: the climb by `p_values` of the best scores of such climbs among held-out demonstrations.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import LocalOutlierFactor

from iirl_auditors.out_of_distribution.candidates import propose
from iirl_auditors.out_of_distribution.detecting import STRANGE as SHARE
from iirl_auditors.out_of_distribution.units import Units
from iirl_engine.conformal import Split, best_of_p_values, discoveries, p_values, split
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.plugins import Plugins
from iirl_engine.registry import Registry

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FDR = 0.05
DETECTORS = ("knn", "lof", "gmm", "mahalanobis", "isolation-forest", "flow")
CLEAN, STRANGE, PROPOSED = 400, 100, 1000
MOST = 4000
LOOKS, POOL = 32, 30

Array = NDArray[np.float64]
Episodes = NDArray[np.int64]
Score = Callable[[Array], Array]
Note = Callable[[str, float], None]
Table = dict[tuple[str, str], list[float]]


@attrs.frozen(eq=False)
class Data:
    """Expert states with their episodes, and states of a random policy where there are some."""

    name: str
    states: Array
    episode: Episodes
    random: Array


def data_sets(root: Path) -> Iterator[Data]:
    """Yield six data sets of ../shared/data."""

    def load(path: str) -> dict[str, Any]:
        with np.load(root / path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], dtype=np.float64) for name in arrays.files}

    def numbered(lengths: Any) -> Episodes:
        return np.repeat(np.arange(len(lengths)), np.asarray(lengths, dtype=np.int64))

    for folder, expert in (
        ("loco_halfcheetah", "tqc"),
        ("loco_hopper", "trpo"),
        ("lunarlander_heuristic", "heuristic"),
        ("driving_highway_idm", "idm"),
    ):
        good, bad = load(f"{folder}/{expert}.npz"), load(f"{folder}/random.npz")
        yield Data(folder, good["obs"], numbered(good["ep_len"]), bad["obs"])
    good, bad = load("pointmaze/medium_expert.npz"), load("pointmaze/medium_random.npz")
    moved = np.any(np.diff(good["goal"], axis=0) != 0, axis=1)  # an episode drives to one goal
    yield Data("pointmaze", good["obs"], np.cumsum(np.r_[0, moved]), bad["obs"])
    clips = load("mocap_quadruped/motions.npz")
    gaits = [clips[name] for name in sorted(clips) if name.startswith("a1_") and "__" not in name]
    lengths = numbered([len(gait) for gait in gaits])
    yield Data("mocap_quadruped", np.concatenate(gaits), lengths, np.empty((0, 61)))


@attrs.frozen(eq=False)
class Trial:
    """One split: demonstrations as the auditors part them, and states to judge."""

    halves: Split
    units: Units
    clean: Array
    policy: Array
    mixed: Array
    proposed: Array


def trial(data: Data, whole: bool, rng: np.random.Generator) -> Trial:
    count = len(data.states)
    groups = data.episode if whole else np.arange(count)
    names = rng.permutation(np.unique(groups))
    sizes = np.cumsum(np.bincount(groups)[names])
    # A quarter of the states at most, or as many episodes as that takes; two are always left.
    enough = int(np.searchsorted(sizes, min(CLEAN, count // 4))) + 1
    aside = np.isin(groups, names[: min(enough, len(names) - 2)])
    clean = data.states[rng.permutation(np.flatnonzero(aside))[:CLEAN]]
    rest = np.sort(rng.permutation(np.flatnonzero(~aside))[:MOST])
    states = data.states[rest]
    episode = data.episode[rest] if whole else None
    halves = split(check(states, episode=episode), FDR / SHARE, rng)
    domain = widened_range(states)
    columns = [rng.permutation(column)[:STRANGE] for column in states.T]
    units = Units.of(halves.fit, np.array(domain.low), np.array(domain.high))
    inside = units(halves.fit), units(units.low), units(units.high)
    return Trial(
        halves,
        units,
        clean,
        data.random[rng.permutation(len(data.random))[:STRANGE]],
        np.stack(columns, axis=1),
        units.back(propose(*inside, PROPOSED, rng)),
    )


def native(name: str, score: Score, fit: Array) -> Callable[[Array], NDArray[np.bool_]]:
    """Return the flags of scikit-learn's own rule, at a contamination of FDR."""
    if name == "lof":  # of fitted states it leaves each out of its own neighbourhood
        model = LocalOutlierFactor(novelty=True, contamination=FDR).fit(fit)
        return lambda states: np.asarray(model.predict(states) < 0)
    threshold = np.quantile(score(fit), 1 - FDR)
    return lambda states: score(states) > threshold


def proportion(flags: NDArray[np.bool_], clean: int) -> tuple[float, float]:
    """Return the share of false discoveries, and of the strange states that are discovered."""
    return flags[:clean].sum() / max(flags.sum(), 1), flags[clean:].mean()


def noting(tables: dict[str, Table], at: tuple[str, str]) -> Note:
    """Return a function that notes a rate in the table of its name."""
    return lambda what, rate: tables[what][at].append(rate)


def judge(name: str, score: Score, one: Trial, episode: Episodes | None, note: Note) -> None:
    """Note the rates of one detector in one trial."""
    fit, clean = one.units(one.halves.fit), one.units(one.clean)
    calibration = score(one.units(one.halves.calibration))
    own = native(name, score, fit)
    note("FDP clean", float(discoveries(p_values(calibration, score(clean), episode), FDR).any()))
    p = p_values(calibration, score(one.units(one.proposed)), episode)
    note("called", discoveries(p, FDR).mean())
    for kind, strange in (("policy", one.policy), ("mixed", one.mixed)):
        if not len(strange):
            continue
        states = np.concatenate([clean, one.units(strange)])
        p = p_values(calibration, score(states), episode)
        false, found = proportion(discoveries(p, FDR), len(clean))
        note("FDP", false)
        note(f"power {kind}", found)
        false, found = proportion(own(states), len(clean))
        note("native FDP", false)
        note("native power", found)


def climb(states: Array, score: Score, rng: np.random.Generator) -> tuple[float, int]:
    """Return the best score of a climb among states, and how many states it scored."""
    near = np.argsort(cdist(states, states), axis=1)[:, :6]
    scores = score(states)
    at = int(rng.integers(len(states)))
    scored = {at}
    while True:
        scored.update(near[at].tolist())
        up = int(near[at][scores[near[at]].argmax()])
        if scores[up] <= scores[at]:
            return float(scores[at]), len(scored)
        at = up


def search(score: Score, one: Trial, rng: np.random.Generator, note: Note) -> None:
    """Note which searches of one trial end with a significant state."""
    held_out = rng.permutation(one.units(one.halves.calibration))
    calibration, clean = score(held_out), one.units(one.clean)

    def significant(p: Array) -> float:
        return float(p[0] <= FDR)

    best = score(clean[:LOOKS]).max(keepdims=True)
    note("ordinary", significant(p_values(calibration, best)))
    note("best of", significant(best_of_p_values(p_values(calibration, best), LOOKS)))
    if len(one.policy):
        best = score(np.concatenate([clean[1:LOOKS], one.units(one.policy[:1])])).max(keepdims=True)
        note("found", significant(best_of_p_values(p_values(calibration, best), LOOKS)))
    best_climb, scored = climb(clean[:POOL], score, rng)
    top = np.array([best_climb])
    note("climb", significant(best_of_p_values(p_values(calibration, top), scored)))
    pools = np.split(held_out[: len(held_out) // POOL * POOL], len(held_out) // POOL)
    note("own", significant(p_values(np.array([climb(p, score, rng)[0] for p in pools]), top)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"calibration: no such folder: {asked.data}; name recorded data with --data")
    torch.set_num_threads(1)
    registry = Registry(Plugins())
    entries = {name: registry.find("auditor", f"iirl-auditors:{name}") for name in asked.detectors}
    detectors = {name: entry.build(entry.offer.options()) for name, entry in entries.items()}
    data = list(data_sets(asked.data))
    ways = ("states", "episodes", "mismatch")
    rates: dict[str, dict[str, Table]] = {
        way: defaultdict(lambda: defaultdict(list)) for way in ways
    }
    searches: dict[str, Table] = defaultdict(lambda: defaultdict(list))
    units: dict[str, dict[str, int]] = {way: {} for way in ways}
    spent: dict[str, float] = defaultdict(float)
    for row, whole, seed in itertools.product(data, (False, True), range(asked.splits)):
        one = trial(row, whole, np.random.default_rng(seed))
        counted = {"episodes": one.halves.episode, "mismatch": None} if whole else {"states": None}
        for way in counted:
            units[way][row.name] = (
                one.halves.units if way != "mismatch" else len(one.halves.calibration)
            )
        for name, auditor in detectors.items():
            started = time.process_time()
            score = auditor.detector(one.units(one.halves.fit), seed)
            spent[name] += time.process_time() - started
            for way, episode in counted.items():
                judge(name, score, one, episode, noting(rates[way], (row.name, name)))
            if not whole:
                rng, note = np.random.default_rng(seed), noting(searches, (name, name))
                search(score, one, rng, note)
    for way in ways:
        print(f"\n== {way}; calibration units in the last split:", end=" ")
        print(", ".join(f"{name} {count:,}" for name, count in units[way].items()))
        for what, table in rates[way].items():
            show(what, [row.name for row in data], asked.detectors, table)
    fits = 2 * len(data) * asked.splits
    print("\nCPU seconds to fit:", ", ".join(f"{n} {spent[n] / fits:.2f}" for n in detectors))
    print("\n== searched, over all data sets; share significant at 0.05")
    print(f"{'':<18}" + "".join(f"{what:>10}" for what in searches))
    for name in asked.detectors:
        shares = (np.mean(table[name, name]) for table in searches.values())
        print(f"{name:<18}" + "".join(f"{share:>10.3f}" for share in shares))


def show(what: str, rows: Sequence[str], columns: Sequence[str], table: Table) -> None:
    """Print one table with the means of its rows and columns."""
    print(f"\n{what:<24}" + "".join(f"{name:>18}" for name in (*columns, "mean")))
    known = [row for row in rows if (row, columns[0]) in table]
    means = np.array([[np.mean(table[row, name]) for name in columns] for row in known])
    for row, line in zip((*known, "mean"), np.vstack([means, means.mean(axis=0)]), strict=True):
        print(f"{row:<24}" + "".join(f"{value:>18.3f}" for value in (*line, line.mean())))


if __name__ == "__main__":
    main()
