"""What a reward's gradient costs an auditor, beside autograd by itself.

    python -m tests.benchmarks.gradient

`Target.reward_and_gradient` of each encoder, with its defaults and mapping `exp`, and of
`moe-autoencoder` with mapping `linear` too, over this in the same turn:

    x.requires_grad_(); r = model.reward(x); torch.autograd.grad(r.sum(), x)

Columns: width of a state, states in a batch, CPU microseconds of autograd per state, median ratio
over the turns, and what it may be. Where foolbox or torchattacks is installed, its own projected
gradient attack stands beside them, as the ratio per step. One thread.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iirl_encoders import options
from iirl_encoders.energy import Energy
from iirl_encoders.flow import Flow
from iirl_encoders.kernel_mean import KernelMean
from iirl_encoders.knn import Knn
from iirl_encoders.mappings import Exp, Linear
from iirl_encoders.mmd_witness import MmdWitness
from iirl_encoders.moe import MoeAutoencoder
from iirl_encoders.rnd import Rnd
from iirl_engine.api import Context
from iirl_engine.demonstrations import check
from iirl_engine.records import Domain
from iirl_engine.reward import RewardModel
from iirl_engine.target import Target

WIDTHS, BATCHES = (16, 64), (100, 1000, 4096)
STATES, STEPS = 2000, 100
BLOCK, TURNS = 0.05, 11

Call = Callable[[], object]

ENCODERS: dict[str, Callable[[], Any]] = {
    "moe-autoencoder": lambda: MoeAutoencoder(options.MoeAutoencoderOptions(steps=STEPS)),
    "knn": lambda: Knn(options.KnnOptions()),
    "kernel-mean": lambda: KernelMean(options.KernelMeanOptions()),
    "mmd-witness": lambda: MmdWitness(options.MmdWitnessOptions()),
    "energy": lambda: Energy(options.EnergyOptions(steps=STEPS)),
    "rnd": lambda: Rnd(options.RndOptions(steps=STEPS)),
    "flow": lambda: Flow(options.FlowOptions(steps=STEPS)),
}


def learned(encoder: Any, mapping: Any, width: int) -> RewardModel:
    """Return a reward learned from a curve."""
    generator = np.random.default_rng(0)
    t = generator.uniform(0, 2 * np.pi, (STATES, 1))
    curve = np.sin(t * np.arange(1, width + 1) / 4) + generator.normal(0, 0.05, (STATES, width))
    others = generator.uniform(-2, 2, (STATES, width))
    domain = Domain((-2.0,) * width, (2.0,) * width)
    data = check(curve, negatives=others, domain=domain)
    encoder.fit(data, Context("encoder", "encoder", 0, 0))
    with torch.no_grad():
        mapping.fit(encoder.encode(torch.tensor(data.states)).loss, Context("m", "m", 0, 0))
    return RewardModel(encoder, mapping, {}, data, domain)


def bare(model: RewardModel, states: Tensor) -> Tensor:
    """Return the gradient by autograd."""
    asked = states.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.reward(asked).sum(), asked)
    return gradient


def compared(call: Call, baseline: Call) -> tuple[float, float]:
    """Return the median CPU seconds of the baseline, and the median ratio of a call to it."""
    repeats = max(1, round(BLOCK / max(seconds(baseline, 1), seconds(baseline, 1))))
    seconds(call, repeats)
    turns = [(seconds(call, repeats), seconds(baseline, repeats)) for _ in range(TURNS)]
    return statistics.median(b for _, b in turns), statistics.median(a / b for a, b in turns)


def seconds(call: Call, repeats: int) -> float:
    """Return the CPU seconds of one call, as the mean of so many."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def attacks(model: RewardModel, states: Tensor) -> dict[str, tuple[Call, int]]:
    """Return the attacks of installed libraries and how many steps each call takes.

    They want a classifier of pictures: its two classes are "no reward" and "reward".
    """
    steps, found = 20, {}
    low, high = model.domain.low[0], model.domain.high[0]
    pictures = ((states - low) / (high - low)).clamp(0, 1)[:, :, None, None]
    labels = torch.zeros(len(states), dtype=torch.long)

    class Classifier(torch.nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            reward = model.reward(given.flatten(1).double() * (high - low) + low)
            return torch.stack([torch.zeros_like(reward), reward], dim=1)

    network = Classifier().eval()
    if importlib.util.find_spec("foolbox"):
        import foolbox

        wrapped = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.L2ProjectedGradientDescentAttack(steps=steps)
        found["foolbox L2 PGD"] = (
            lambda: attack.run(wrapped, pictures, labels, epsilon=1.0),
            steps,
        )
    if importlib.util.find_spec("torchattacks"):
        import torchattacks

        other = torchattacks.PGDL2(network, eps=1.0, alpha=0.1, steps=steps)
        found["torchattacks PGDL2"] = (lambda: other(pictures, labels), steps)
    return found


def main() -> None:
    """Print one line per encoder, width and batch."""
    torch.set_num_threads(1)
    print(
        f"{'d':>3}{'batch':>7}  {'encoder':<26}{'autograd us/state':>18}{'ratio':>7}{'target':>8}"
    )
    named: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (name, build, lambda: Exp(options.ExpOptions())) for name, build in ENCODERS.items()
    ]
    linear = Linear(options.LinearOptions())
    named.insert(1, ("moe-autoencoder, linear", ENCODERS["moe-autoencoder"], lambda: linear))
    for width in WIDTHS:
        for name, encoder, mapping in named:
            model = learned(encoder(), mapping(), width)
            for batch in BATCHES:
                rows = np.resize(model.demonstrations.states, (batch, width))
                noise = np.random.default_rng(1).normal(0, 0.1, rows.shape)
                states = torch.from_numpy(rows + noise)
                target = Target(model, 0.01, 2**62)
                gradient = target.reward_and_gradient(states)[1]
                assert torch.allclose(gradient, bare(model, states), rtol=1e-9, atol=1e-12)
                lines: dict[str, tuple[Call, int]] = {
                    name: (lambda t=target, s=states: t.reward_and_gradient(s), 1)
                }
                if name == "moe-autoencoder":
                    lines |= attacks(model, states)
                for line, (call, steps) in lines.items():
                    taken, ratio = compared(call, lambda m=model, s=states: bare(m, s))
                    most = "" if steps > 1 else "0.8" if name.startswith("moe") else "1.1"
                    print(
                        f"{width:>3}{batch:>7}  {line:<26}{1e6 * taken / batch:>18.2f}"
                        f"{ratio / steps:>7.2f}{most:>8}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
