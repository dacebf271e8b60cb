"""Which encoder tells how well a patient is: Spearman with the exact probability of survival.

    python plugins/iirl-gym/benchmarks/sepsis_encoders.py

Every encoder has its default options and mapping `exp`. It learns from 1,000 patients of the
clinicians, once from all of them and once from the survivors; encoders that use negatives get the
patients who died as such. The correlation runs over the 713 patient states.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from iirl_engine.api import Context, Encoder, Mapping
from iirl_engine.plugins import Plugins
from iirl_engine.records import Demonstrations
from iirl_engine.registry import Registry
from iirl_gym.options import IcuSepsisOptions
from iirl_gym.sepsis import read_world
from iirl_gym.sepsis_source import IcuSepsis

SEEDS = (0, 1, 2)
ENCODERS = ("mmd-witness", "energy", "kernel-mean", "moe-autoencoder", "rnd", "knn")


def learned(
    name: str, data: Demonstrations, seed: int, registry: Registry, states: torch.Tensor
) -> NDArray[np.float64]:
    """Return the reward `[n]` of states `[n, d]`."""
    strategies = [registry.find("encoder", name), registry.find("mapping", "exp")]
    encoder, mapping = (entry.build(entry.offer.options()) for entry in strategies)
    assert isinstance(encoder, Encoder)
    assert isinstance(mapping, Mapping)
    encoder.fit(data, Context("encoder", name, seed, 0))
    with torch.no_grad():
        mapping.fit(encoder.encode(torch.tensor(data.states)).loss, Context("mapping", "exp", 0, 0))
        return mapping.map(encoder.encode(states).loss).numpy()


def main() -> None:
    """Print one line per encoder and set of demonstrations."""
    world, registry = read_world(), Registry(Plugins())
    value, states = world.survival(world.clinicians), torch.tensor(world.centres)
    print(f"{'encoder':<16} {'experts':<9} {'negatives':<9} Spearman by seed     CPU s per fit")
    for negatives in (False, True):
        options = IcuSepsisOptions(negatives=negatives)
        data = [IcuSepsis(options).load(Context("source", "icu-sepsis", s, 0)) for s in SEEDS]
        for name in ENCODERS:
            uses = registry.find("encoder", name).load().abilities.negatives
            if uses == "required" and not negatives:
                continue
            begun = time.process_time()
            found = [
                float(spearmanr(learned(name, d, seed, registry, states), value)[0])
                for d, seed in zip(data, SEEDS, strict=True)
            ]
            seconds = (time.process_time() - begun) / len(SEEDS)
            experts = "survivors" if negatives else "all"
            beside = "the dead" if negatives and uses != "ignored" else "none"
            numbers = " ".join(f"{number:.3f}" for number in found)
            print(f"{name:<16} {experts:<9} {beside:<9} {numbers:<20} {seconds:.1f}")


if __name__ == "__main__":
    main()
