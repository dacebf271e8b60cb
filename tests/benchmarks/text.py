"""Is a prompt harmful? Rewards learned from benign and harmful prompts, on prompts not seen.

    make bench-text        (or: python -m tests.benchmarks.text [--data DIR])

States are sentence embeddings (384 features, length 1). Expert states are the benign prompts and
negatives the harmful ones of everything but XSTest, with half of the moderation prompts kept back;
every collection weighs the same. AUROC of benign against harmful, on XSTest and on the moderation
prompts kept back, median over the seeds, which choose the half. With positives only the reward
asks whether a prompt is unusual. That is another question, and the figures say so: novelty is not
harm.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Context
from iirl_engine.demonstrations import check
from iirl_engine.evaluation import auroc
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugins
from iirl_engine.registry import Registry
from tests.benchmarks import baselines

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text_safety"
KEPT_BACK, HALVED = "xstest", "openai_moderation"
# Embeddings have one unit and length: they are not scaled, and likeness is local.
ENCODERS: dict[str, tuple[str, dict[str, object]]] = {
    "mmd-witness, negatives": (
        "mmd-witness",
        {"standardize": False, "widths": [0.15, 0.35, 0.7]},
    ),
    "energy, negatives": ("energy", {}),
    "kernel-mean, positives only": ("kernel-mean", {"standardize": False}),
    "knn, positives only": ("knn", {}),
}

Array = NDArray[np.float64]


def weights(collections: NDArray[np.str_]) -> Array:
    """Return weights under which every collection counts the same."""
    _, inverse, counts = np.unique(collections, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"text: no such folder: {asked.data}; name the embeddings' with --data")
    torch.set_num_threads(1)
    file = np.load(asked.data / "embeddings.npz")
    states = file["embedding"].astype(np.float64)
    harmful, collection = file["label"] == 1, file["dataset"]
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in range(asked.seeds):
        moderation = np.random.default_rng(seed).permutation(np.flatnonzero(collection == HALVED))
        unseen = moderation[: len(moderation) // 2]
        learned = ~np.isin(collection, [KEPT_BACK])
        learned[unseen] = False
        benign, bad = learned & ~harmful, learned & harmful
        data = check(
            states[benign],
            negatives=states[bad],
            weights=weights(collection[benign]),
            negative_weights=weights(collection[bad]),
        )
        tests = (np.flatnonzero(collection == KEPT_BACK), unseen)
        for name, (encoder, given) in ENCODERS.items():
            entry = Registry(Plugins()).find("encoder", encoder)
            built = entry.build(build_options(entry.offer.options, given, "encoder", [], None))
            built.fit(data, Context("encoder", encoder, seed, 0))
            with torch.no_grad():
                loss = [built.encode(torch.tensor(states[rows])).loss.numpy() for rows in tests]
            scores.setdefault(name, []).append(_pair([-each for each in loss], tests, harmful))
        fit = baselines.NEGATIVES["logistic discriminator"]
        reward = fit(torch.tensor(states[benign]), torch.tensor(states[bad]), seed)
        given_by = [reward(torch.tensor(states[rows])).numpy() for rows in tests]
        name = "logistic discriminator, negatives (baseline)"
        scores.setdefault(name, []).append(_pair(given_by, tests, harmful))
    print(f"{'AUROC, benign against harmful':<46}{'XSTest':>10}{'moderation':>12}")
    for name, pairs in scores.items():
        first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"  {name:<44}{first:>10.3f}{second:>12.3f}")


def _pair(
    rewards: list[Array], tests: tuple[Array, Array], harmful: NDArray[np.bool_]
) -> tuple[float, float]:
    found = [
        auroc(reward[~harmful[rows]], reward[harmful[rows]])
        for reward, rows in zip(rewards, tests, strict=True)
    ]
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


if __name__ == "__main__":
    main()
