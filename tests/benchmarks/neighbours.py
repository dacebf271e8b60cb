"""How fast the nearest expert states are found, and how right their distances are.

    python -m tests.benchmarks.neighbours [--points N] [--threads N] [--rounds N] [--normal]

N points on a curved sheet, of two to four dimensions and a little noise, and as many queries: half
of them on the sheet too, half anywhere in a box 2.5 times as wide. With `--normal` all are from a
normal distribution, where at 16 features or more no search can leave points out. `ours` is
`iirl_engine.support.Support`; beside it, in the same rounds, are scikit-learn's KDTree (where it is
done within minutes), faiss's IndexFlatL2 and a brute force of torch.cdist. Each builds its index
and asks for the k nearest.

Columns: width, k, who, median CPU seconds of all threads, median wall seconds, seconds over those
of the better of scikit-learn and faiss (at most 1 is what we are after), and the largest relative
error of a distance. The error is taken on other queries: some of the above, points themselves,
points a hair away, and points 1,000 times as far out, against a brute force in float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import KDTree

from iirl_engine.support import Support

WIDTHS, COUNTS = (3, 16, 64), (1, 10)
# Above this width a kd-tree visits nearly every point.
TREE = 6

Array = NDArray[np.float64]
# From points, queries and k to distances.
Search = Callable[[Array, Array, int], NDArray[np.floating]]


def sheet(width: int, points: int) -> tuple[Array, Array]:
    """Return points and queries `[points, width]`."""
    generator = np.random.default_rng(width)
    inner = {3: 2, 16: 3}.get(width, 4)
    flat = np.linalg.qr(generator.normal(size=(width, inner)))[0]
    bend = generator.normal(size=(width, 2 * inner)) / width**0.5
    waves, phase = (
        1.6 * generator.normal(size=(2 * inner, inner)),
        generator.uniform(0, 6, inner * 2),
    )

    def drawn(count: int) -> Array:
        z = generator.uniform(-1, 1, (count, inner))
        surface = z @ flat.T + 0.45 * np.sin(z @ waves.T + phase) @ bend.T
        return np.asarray(surface + generator.normal(0, 0.02, surface.shape))

    on = drawn(points)
    reach = 2.5 * np.abs(on).max()
    anywhere = generator.uniform(-reach, reach, (points - points // 2, width))
    queries = np.concatenate([drawn(points // 2), anywhere])
    return on, queries[generator.permutation(points)]


def normal(width: int, points: int) -> tuple[Array, Array]:
    """Return points and queries `[points, width]` that lie on no sheet."""
    generator = np.random.default_rng(width)
    return generator.normal(size=(points, width)), generator.normal(0, 1.5, (points, width))


def ours(points: Array, queries: Array, k: int) -> NDArray[np.floating]:
    return Support(points).neighbours(torch.from_numpy(queries), k)[0].numpy()


def kd_tree(points: Array, queries: Array, k: int) -> NDArray[np.floating]:
    return np.asarray(KDTree(points).query(queries, k=k)[0])


def flat_index(points: Array, queries: Array, k: int) -> NDArray[np.floating]:
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points.astype(np.float32))
    squared = index.search(queries.astype(np.float32), k)[0]
    return np.sqrt(np.maximum(squared, 0))


def brute_force(points: Array, queries: Array, k: int) -> NDArray[np.floating]:
    to = torch.from_numpy(points).float()
    parts = torch.from_numpy(queries).float().split(1024)
    return torch.cat(
        [torch.cdist(part, to).topk(k, largest=False).values for part in parts]
    ).numpy()


def worst_error(search: Search, points: Array, queries: Array, k: int) -> float:
    """Return the largest relative error; a distance of 0 has to be found exactly."""
    asked = np.concatenate([queries[:200], points[:50], points[:50] + 1e-6, 1e3 * queries[:50]])
    true = np.sort(cdist(asked, points))[:, :k]
    found = search(points, asked, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.abs(found - true) / true, nan=0.0).max())


def main() -> None:
    """Print one line per width, k and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--normal", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    faiss.omp_set_num_threads(asked.threads)
    print(f"{asked.points} points and queries, {asked.threads} threads")
    print(f"{'d':>3}{'k':>4}  {'who':<24}{'CPU s':>8}{'wall s':>8}{'ratio':>7}{'error':>10}")
    for width in WIDTHS:
        points, queries = (normal if asked.normal else sheet)(width, asked.points)
        # Some points are there twice.
        points[-50:] = points[:50]
        searches: dict[str, Search] = {"ours": ours, "faiss IndexFlatL2": flat_index}
        if width <= TREE:
            searches["scikit-learn KDTree"] = kd_tree
        searches["torch.cdist"] = brute_force
        for k in COUNTS:
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
            for _ in range(asked.rounds):
                for name, search in searches.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    search(points, queries, k)
                    taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
            cpu_s = {n: statistics.median(cpu for cpu, _ in both) for n, both in taken.items()}
            peers = ("faiss IndexFlatL2", "scikit-learn KDTree")
            best = min(cpu_s[name] for name in peers if name in cpu_s)
            for name, search in searches.items():
                wall_s = statistics.median(wall for _, wall in taken[name])
                error = worst_error(search, points, queries, k)
                print(
                    f"{width:>3}{k:>4}  {name:<24}{cpu_s[name]:>8.2f}{wall_s:>8.2f}"
                    f"{cpu_s[name] / best:>7.2f}{error:>10.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
