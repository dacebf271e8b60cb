"""How fast a reward is: eager and exported, in long batches and in small ones.

    python -m tests.benchmarks.throughput

The reward of `moe-autoencoder` with mapping `exp`, both with their defaults, on states with 17
features. CPU time of one thread, medians. Beside each figure stand its target
and the baseline of the same run: the same formula, written out with given weights as a NumPy
function that checks nothing and scales nothing.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from iirl_encoders.mappings import Exp
from iirl_encoders.moe import MoeAutoencoder
from iirl_encoders.options import ExpOptions, MoeAutoencoderOptions
from iirl_engine.api import Context
from iirl_engine.demonstrations import check
from iirl_engine.records import Domain
from iirl_engine.reward import RewardModel
from iirl_export import export

WIDTH = 17
LONG, SHORT = 4096, 8
WARM, BLOCK, TURNS = 20, 0.02, range(51)

Array = NDArray[np.float64]
Call = Callable[[], object]


def learned() -> RewardModel:
    """Return a reward learned from a curve in 17 dimensions."""
    generator = np.random.default_rng(0)
    t = generator.uniform(0, 2 * np.pi, (2000, 1))
    curve = np.sin(t * np.arange(1, WIDTH + 1) / 4) + generator.normal(0, 0.05, (2000, WIDTH))
    data = check(curve, domain=Domain((-2.0,) * WIDTH, (2.0,) * WIDTH))
    encoder, mapping = MoeAutoencoder(MoeAutoencoderOptions()), Exp(ExpOptions())
    encoder.fit(data, Context("encoder", "moe-autoencoder", 0, 0))
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, Context("mapping", "exp", 0, 0))
    assert data.domain is not None
    return RewardModel(encoder, mapping, {}, data, data.domain)


def written_out(model: RewardModel) -> Callable[[Array], Array]:
    """Return the formula of the reward in NumPy, without checks and without scaling."""
    weights = {name: tensor.numpy() for name, tensor in model.encoder.tensors().items()}
    low, high = model.mapping.tensors()["limits"].tolist()
    count, hidden, width = weights["encoder"].shape
    encoder = weights["encoder"].reshape(-1, width).T.copy()
    decoder = weights["decoder"].transpose(0, 2, 1).reshape(-1, width).copy()
    gate = weights["gate"].T.copy()
    bias = weights["encoder_bias"].reshape(-1)

    def reward(states: Array) -> Array:
        share = np.exp(states @ gate + weights["gate_bias"])
        share /= share.sum(axis=1, keepdims=True)
        units = np.maximum(states @ encoder + bias, 0.0).reshape(-1, count, hidden)
        features = (units * share[:, :, None]).reshape(len(states), -1)
        mixed = features @ decoder + share @ weights["decoder_bias"]
        loss = np.square(states - mixed).mean(axis=1)
        return np.asarray(np.minimum(np.exp((low - loss) / (high - low)), 1.0))

    return reward


def session(path: Path) -> Any:
    """Return an ONNX runtime of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def medians(calls: dict[str, Call]) -> dict[str, float]:
    """Return the median CPU seconds of each call, over blocks of calls that take about 20 ms.

    The blocks take turns, so that all meet the same load of the machine.
    """
    repeats = {}
    for name, call in calls.items():
        seconds(call, WARM)
        repeats[name] = max(1, round(BLOCK / seconds(call, WARM)))
    taken = [{name: seconds(call, repeats[name]) for name, call in calls.items()} for _ in TURNS]
    return {name: statistics.median(turn[name] for turn in taken) for name in calls}


def seconds(call: Call, repeats: int) -> float:
    """Return the CPU seconds of one call, as the mean of so many."""
    start = time.process_time_ns()
    for _ in range(repeats):
        call()
    return (time.process_time_ns() - start) / 1e9 / repeats


def main() -> None:
    """Print one line per way of calling."""
    torch.set_num_threads(1)
    model = learned()
    baseline = written_out(model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reward.onnx"
        export(model, file)
        run = functools.partial(session(file).run, ["reward"])
        archive = Path(folder) / "reward.pt2"
        export(model, archive, "torch")
        program = torch.export.load(archive).module()
    print("CPU time of one thread, medians of calls in turn")
    print(
        f"{'states':>6}  {'call':<24}{'us a call':>10}{'target':>8}{'M states/s':>12}{'target':>8}"
    )
    for count in (LONG, SHORT):
        repeated = np.resize(model.demonstrations.states, (count, WIDTH))
        noise = np.random.default_rng(1).normal(0, 0.1, repeated.shape)
        states = repeated + noise
        tensor = torch.from_numpy(states)
        assert np.abs(model(states) - baseline(states)).max() < 1e-9

        def eager(tensor: torch.Tensor = tensor) -> object:
            with torch.no_grad():
                return model.reward(tensor)

        def loaded(tensor: torch.Tensor = tensor) -> object:
            with torch.no_grad():
                return program(tensor)

        calls: dict[str, Call] = {
            "NumPy, written out": functools.partial(baseline, states),
            "model(states)": functools.partial(model, states),
            "model.reward(tensor)": eager,
            "torch.export": loaded,
            "ONNX Runtime": functools.partial(run, {"states": states}),
        }
        targets = {"model(states)": 100, "model.reward(tensor)": 100, "ONNX Runtime": 35}
        for name, median in medians(calls).items():
            line = f"{count:>6}  {name:<24}{1e6 * median:>10.1f}"
            if count == SHORT:
                print(f"{line}{targets.get(name, ''):>8}")
            else:
                target = "" if name == "NumPy, written out" else 1
                print(f"{line}{'':>8}{count / median / 1e6:>12.2f}{target:>8}")


if __name__ == "__main__":
    main()
