"""How fast many kernels are summed at many states, how exactly, and in how much memory.

    python -m tests.benchmarks.patches [--quick]

States of 111 features lie on three curved sheets of six dimensions, with a little noise, and so do
the kernels; one state in five lies near a kernel. Two tasks, with kernels of a radius that is in
proportion to the usual distance from one to the next:

- `state`: Wendland kernels of 1.5 times that distance, among the 111 features. `ours` is the
  correction itself, `Kernels.suppression`.
- `bottleneck`: Gaussian kernels of a fifth of it, among the 10 features of each of three experts (a
  linear layer and a ReLU), weighed by a softmax gate, encoding included. `ours` is three
  `LocalKernels`.

Beside it, in the same run: `dense`, all distances by matrix products in chunks, as one would write
it (float64 in torch for `state`; float32 in NumPy for `bottleneck`); and `SimHash`, four tables of
signs of random projections, split at the median, that sums the kernels of a state's buckets.
Every contestant runs in a process of its own, with one thread. `overlap` asks for kernels so wide
that all reach all states, where nothing can be ruled out and hashing has no meaning. `--quick`
leaves out 100,000 kernels.

Columns: states, kernels, who, median CPU seconds of a call, those over the better of `dense` and
`SimHash` (at most 1 is what we are after), peak memory of a call in MB, largest error against
float64 by differences (1e-6 is what we are after), and misses: of the states whose suppression is
0.5 or more, the share that the contestant puts below 0.49. What would take minutes is run on a part
of the states; its time, marked `~`, is that of the part times their number. At the end: CPU seconds
of the sum with its gradient, and the exponent with which time grows from 1,000 to 100,000 kernels
(1 is linear).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from iirl_engine.corrections.base import View
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.patches import LocalKernels

Array = NDArray[np.float64]
Sum = Callable[[Array], NDArray[np.floating]]

WIDTH, INNER, EXPERTS, BOTTLENECK = 111, 6, 3, 10
SIZES = ((1, 1_000), (1_000, 1_000), (100_000, 1_000), (1_000, 100_000), (100_000, 100_000))
CHECKED = 1_000
# So many pairs a slow contestant computes at most, so many entries of a matrix it holds.
PAIRS, ENTRIES = 10**8, 2**24
WHO = ("ours", "dense", "SimHash")


class Bundle:
    """Kernels and states of one size; the same for every contestant."""

    def __init__(self, task: str, states: int, kernels: int) -> None:
        generator = np.random.default_rng(0)
        waves = generator.normal(size=(EXPERTS, INNER, 2 * INNER))
        bend = generator.normal(size=(EXPERTS, 2 * INNER, WIDTH)) / EXPERTS
        middle = generator.normal(size=(EXPERTS, WIDTH))
        self.weights = generator.normal(size=(EXPERTS, WIDTH, BOTTLENECK)) / WIDTH**0.5
        self.gate = generator.normal(size=(WIDTH, EXPERTS)) / WIDTH**0.5

        def drawn(count: int) -> Array:
            sheet = generator.integers(EXPERTS, size=count)
            z = generator.uniform(-1, 1, (count, INNER))
            on = np.empty((count, WIDTH))
            for number in range(EXPERTS):
                rows = sheet == number
                on[rows] = middle[number] + np.sin(z[rows] @ waves[number]) @ bend[number]
            return np.asarray(on + generator.normal(0, 0.02, on.shape))

        self.centers = drawn(kernels)
        self.states = drawn(states)
        near = np.arange(states) % 5 == 0
        chosen = self.centers[generator.integers(kernels, size=int(near.sum()))]
        self.states[near] = chosen + generator.normal(0, 0.02, chosen.shape)
        self.strengths = generator.uniform(0.5, 1.0, kernels)
        parts = [self.centers]
        if task == "bottleneck":
            parts = np.array_split(self.centers, EXPERTS)
            parts = [np.maximum(part @ w, 0) for part, w in zip(parts, self.weights, strict=True)]
        self.parts = parts
        self.strength_parts = np.array_split(self.strengths, len(parts))
        spacing = statistics.median(_spacing(part) for part in parts)
        radius = (0.2 if task == "bottleneck" else 1.5) * spacing
        self.radius = 1e3 if task == "overlap" else radius
        self.task = task

    def encoded(self, states: Array) -> tuple[list[Array], Array]:
        """Return where the kernels of each part look, and with which weight, `[n, parts]`."""
        if self.task != "bottleneck":
            return [states], np.ones((len(states), 1))
        logits = states @ self.gate
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        return [np.maximum(states @ w, 0) for w in self.weights], share

    def profile(self, squared: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return φ of squared distances in radii."""
        if self.task == "bottleneck":
            return np.exp(squared / -2)
        r = np.minimum(np.sqrt(squared), 1)
        return np.asarray((1 - r) ** 4 * (4 * r + 1))


def _spacing(points: Array) -> float:
    apart = cdist(points[:500], points)
    return float(np.median(np.partition(apart, 1, axis=1)[:, 1]))


def exact(bundle: Bundle) -> Sum:
    """By differences in float64: what the others are compared with."""

    def total(states: Array) -> Array:
        places, share = bundle.encoded(states)
        sums = np.zeros(len(states))
        for number, (place, centers) in enumerate(zip(places, bundle.parts, strict=True)):
            for first in range(0, len(states), 50):
                rows = slice(first, first + 50)
                squared = np.square(cdist(place[rows], centers) / bundle.radius)
                value = bundle.profile(squared) @ bundle.strength_parts[number]
                sums[rows] += share[rows, number] * value
        return sums

    return total


def ours(bundle: Bundle) -> Sum:
    if bundle.task != "bottleneck":
        radii = np.full(len(bundle.centers), bundle.radius)
        correction = Kernels(
            id="k",
            refiner="r",
            round=1,
            centers=bundle.centers,
            radii=radii,
            strengths=bundle.strengths,
        )
        return lambda states: correction.suppression(View(torch.from_numpy(states))).numpy()
    locals_ = [
        LocalKernels(part, np.full(len(part), bundle.radius), strengths, "gaussian")
        for part, strengths in zip(bundle.parts, bundle.strength_parts, strict=True)
    ]

    def total(states: Array) -> Array:
        places, share = bundle.encoded(states)
        sums = [
            local.sum(torch.from_numpy(place)).numpy()
            for local, place in zip(locals_, places, strict=True)
        ]
        return np.asarray((share * np.column_stack(sums)).sum(axis=1))

    return total


def dense(bundle: Bundle) -> Sum:
    if bundle.task == "bottleneck":
        kinds = [part.astype(np.float32) for part in bundle.parts]
        strengths = [part.astype(np.float32) for part in bundle.strength_parts]
        lengths = [np.square(part).sum(axis=1) for part in kinds]

        def gated(states: Array) -> NDArray[np.floating]:
            places, share = bundle.encoded(states)
            sums = np.zeros(len(states))
            for number, place in enumerate(places):
                size = max(1, ENTRIES // len(kinds[number]))
                for first in range(0, len(states), size):
                    asked = place[first : first + size].astype(np.float32)
                    squared = np.square(asked).sum(axis=1, keepdims=True) + lengths[number]
                    squared -= 2 * asked @ kinds[number].T
                    np.maximum(squared, 0, out=squared)
                    squared *= np.float32(-0.5 / bundle.radius**2)
                    value = np.exp(squared, out=squared) @ strengths[number]
                    sums[first : first + size] += share[first : first + size, number] * value
            return sums

        return gated
    centers, strength = torch.from_numpy(bundle.centers), torch.from_numpy(bundle.strengths)

    def total(states: Array) -> NDArray[np.floating]:
        found = []
        for part in torch.split(torch.from_numpy(states), max(1, ENTRIES // len(centers))):
            apart = torch.cdist(part, centers, compute_mode="use_mm_for_euclid_dist")
            r = (apart / bundle.radius).clamp(max=1)
            found.append(((1 - r).pow(4) * (4 * r + 1)) @ strength)
        return torch.cat(found).numpy()

    return total


def simhash(bundle: Bundle) -> Sum:
    """Four tables of signs of random projections, split at the median (Charikar 2002)."""
    generator = np.random.default_rng(1)
    tables = []
    for centers in bundle.parts:
        width = centers.shape[1]
        bits = min(max(14, math.ceil(math.log2(len(centers))) + 4), width + 2)
        planes = generator.normal(size=(4, width, bits))
        split = [np.median(centers @ plane, axis=0) for plane in planes]
        powers = 1 << np.arange(bits)
        buckets = []
        for plane, cut in zip(planes, split, strict=True):
            code = (centers @ plane > cut) @ powers
            order = np.argsort(code, kind="stable")
            names, first = np.unique(code[order], return_index=True)
            groups = np.split(order, first[1:])
            buckets.append(dict(zip(names.tolist(), groups, strict=True)))
        tables.append((planes, split, powers, buckets))

    def total(states: Array) -> Array:
        places, share = bundle.encoded(states)
        sums = np.zeros(len(states))
        for number, (place, centers) in enumerate(zip(places, bundle.parts, strict=True)):
            pairs = []
            for plane, cut, powers, bucket in zip(
                *tables[number][:2], [tables[number][2]] * 4, tables[number][3], strict=True
            ):
                code = (place @ plane > cut) @ powers
                order = np.argsort(code, kind="stable")
                names, first = np.unique(code[order], return_index=True)
                for name, rows in zip(names.tolist(), np.split(order, first[1:]), strict=True):
                    if (some := bucket.get(name)) is not None:
                        pairs.append((rows[:, None] * len(centers) + some).ravel())
            if not pairs:
                continue
            row, kernel = np.divmod(np.unique(np.concatenate(pairs)), len(centers))
            for first in range(0, len(row), 2**18):
                i, j = row[first : first + 2**18], kernel[first : first + 2**18]
                squared = np.square(place[i] - centers[j]).sum(axis=1) / bundle.radius**2
                value = bundle.profile(squared) * bundle.strength_parts[number][j]
                sums += np.bincount(i, share[i, number] * value, len(sums))
        return sums

    return total


CONTESTANTS: dict[str, Callable[[Bundle], Sum]] = {"ours": ours, "dense": dense, "SimHash": simhash}


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def measured(task: str, states: int, kernels: int, who: str) -> dict[str, float]:
    """Return what one contestant does with one bundle."""
    torch.set_num_threads(1)
    bundle = Bundle(task, states, kernels)
    total = CONTESTANTS[who](bundle)
    asked = bundle.states
    if who != "ours" and states * kernels > PAIRS:
        asked = asked[: PAIRS // kernels]
    total(asked[:5])
    start = time.process_time()
    while time.process_time() - start < 0.1:
        total(asked[:1])
    # From here on, the highest is that of the calls.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    taken: list[float] = []
    repeats = 500 if len(asked) == 1 else 3 if len(asked) * kernels <= 10**8 else 1
    for _ in range(repeats):
        start = time.process_time()
        found = total(asked)
        taken.append(time.process_time() - start)
    peak = _memory("VmHWM") - before
    checked = slice(0, CHECKED if kernels <= 10_000 else CHECKED // 2)
    true = exact(bundle)(asked[checked])
    blocked = true >= 0.5
    result = {
        "seconds": statistics.median(taken) * states / len(asked),
        "part": len(asked) / states,
        "memory": peak / 2**20,
        "error": float(np.abs(found[checked] - true).max()),
        "misses": float((found[checked][blocked] < 0.49).mean()) if blocked.any() else math.nan,
    }
    if who == "ours" and task == "state" and 1 < states * kernels <= 10**8:
        leaf = torch.from_numpy(asked).requires_grad_()
        local = LocalKernels(
            bundle.centers, np.full(kernels, bundle.radius), bundle.strengths, "wendland"
        )
        local.sum(torch.from_numpy(asked[:5]))
        start = time.process_time()
        local.sum(leaf).sum().backward()
        result["with gradient"] = time.process_time() - start
    return result


def run(*asked: object) -> dict[str, float]:
    """Return what `measured` returns, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--one", *map(str, asked)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print one line per task, size and contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        task, states, kernels, who = asked.one
        print(json.dumps(measured(task, int(states), int(kernels), who)))
        return
    sizes = [size for size in SIZES if size[1] <= 1_000] if asked.quick else SIZES
    print(
        f"{'task':<11}{'states':>7}{'kernels':>8}  {'who':<8}{'CPU s':>12}{'ratio':>7}"
        f"{'MB':>7}{'error':>9}{'misses':>8}"
    )
    grown: dict[tuple[str, int], dict[int, float]] = {}
    for task in ("state", "bottleneck", "overlap"):
        for states, kernels in sizes if task != "overlap" else ((10_000, 1_000),):
            contestants = WHO[:2] if task == "overlap" else WHO
            found = {who: run(task, states, kernels, who) for who in contestants}
            best = min(line["seconds"] for who, line in found.items() if who != "ours")
            for who, line in found.items():
                mark = " " if line["part"] == 1 else "~"
                print(
                    f"{task:<11}{states:>7}{kernels:>8}  {who:<8}{mark}{line['seconds']:>11.6f}"
                    f"{line['seconds'] / best:>7.2f}{line['memory']:>7.0f}{line['error']:>9.0e}"
                    f"{line['misses']:>8.1%}",
                    flush=True,
                )
            if (gradient := found["ours"].get("with gradient")) is not None:
                print(f"{'':<28}with its gradient: {gradient:.6f}", flush=True)
            grown.setdefault((task, states), {})[kernels] = found["ours"]["seconds"]
    for (task, states), seconds in grown.items():
        if {1_000, 100_000} <= set(seconds):
            power = math.log(seconds[100_000] / seconds[1_000], 100)
            print(f"{task}, {states} states: time grows with the kernels to the power {power:.2f}")


if __name__ == "__main__":
    main()
