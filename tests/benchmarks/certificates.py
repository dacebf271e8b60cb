"""Certificates: what is proved, how many leaves it takes, and what it costs.

    make bench-certificates    (or: python -m tests.benchmarks.certificates [--data DIR])

`figure1` has the reference's weights and needs its folder in `../shared/data`; the mixture in 16
dimensions is made here. Every row is one reward, one kind of region and one way to bound the loss;
`interval`, plain interval arithmetic, is the baseline. Columns:

proved, flaw, undecided
    Regions with each answer. A region has a budget of boxes, after which it stays undecided.
settled
    Share of the regions' volume that is proved.
leaves, bytes
    Of the certificate.
boxes
    That the prover bounded.
prover, checker
    CPU seconds on one thread; compare them within one run only. The checker is asked about each box
    that the prover takes for a leaf.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree

import iirl_engine as iirl
from iirl_certify import Region, around_demonstrations, certify, slices
from iirl_engine.builtin.figure1 import BOUNDARY, grid
from iirl_engine.certificate import Refused, Reward, box, check, leaves
from iirl_engine.corrections.base import Correction
from iirl_engine.layout import MANIFEST, TENSORS
from tests.benchmarks.figure1 import DATA, chain_of

METHODS = ("interval", "crown-ibp", "crown")
SPIKE, RADIUS = (0.7, -0.6, 0.5), 0.03
WIDTH, STATES, ASKED = 16, 4000, 1000


def main() -> int:
    """Print the tables; exit with 2 when the data are not there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--asked", type=int, default=ASKED, help="demonstrations in 16 dimensions")
    parser.add_argument("--picture", type=Path, help="draw the leaves of one plane here")
    given = parser.parse_args()
    if not (given.data / "moe_weights.npz").is_file():
        print(f"the benchmark needs the reference's weights in {given.data}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figure1(Path(folder), given.data)
        mixture(Path(folder), given.asked, given.picture)
    return 0


def figure1(folder: Path, data: Path) -> None:
    """The whole cube outside a shell of 0.02, and the same with a spike in it."""
    expert = np.load(data / "expert_path.npy").astype(np.float64)
    near = cKDTree(expert).query(grid())[0] <= BOUNDARY
    np.savez(folder / "demos.npz", states=expert, known_good=grid()[near])
    head("figure1, the cube outside a shell of 0.02")
    whole = {}
    for refiner in ("envelope", "kernel-lp"):
        chain = folder / f"{refiner}.toml"
        chain.write_text(chain_of([refiner], 8, data))
        outcome = iirl.Flywheel.from_file(str(chain), out=str(folder / refiner)).run()
        whole[refiner] = outcome.release
        for method in METHODS:
            row(refiner, method, outcome.release, None, margin=0.02, budget=300_000)
    spiked = folder / "spiked"
    spike = iirl.Kernels(
        id="spike",
        refiner="nobody",
        round=1,
        centers=np.array([SPIKE]),
        radii=np.array([RADIUS]),
        strengths=np.array([1.0]),
        effect="lift",
    )
    release_with(whole["envelope"], spiked, spike)
    print(f"\nthe same with one spike of radius {RADIUS} at {SPIKE}")
    proof = certify(spiked, margin=0.02)
    (state, *_), (reward, *_) = proof.counterexamples, proof.rewards
    print(
        f"  refused after {proof.judged[0].boxes:,} boxes and {proof.seconds[0]:.2f} CPU s: "
        f"reward {reward:.3f} at {np.round(state, 4).tolist()}"
    )
    sound = certify(whole["envelope"], margin=0.02).certificate
    assert sound is not None
    try:
        check((spiked / MANIFEST).read_bytes(), (spiked / TENSORS).read_bytes(), sound)
    except Refused as error:
        print(f"  the certificate of the release without it is refused: {str(error)[:40]} ...")


def mixture(folder: Path, asked: int, picture: Path | None) -> None:
    """Slices and boxes around demonstrations on a curved surface in 16 dimensions."""
    states = surface(np.random.default_rng(0), STATES)
    np.savez(folder / "surface.npz", states=states)
    (folder / "surface.toml").write_text(SURFACE)
    chain = folder / "surface.toml"
    outcome = iirl.Flywheel.from_file(str(chain), out=str(folder / "surface")).run()
    model = iirl.load_release(outcome.release)
    boundary = float(-model.norms["support"].violation(torch.tensor(states[:1]))[0])
    print(
        f"\n{WIDTH} dimensions: {STATES:,} states on a curved surface, boundary {boundary:.3f}, "
        f"mean reward of the demonstrations {model(states).mean():.2f}; as learned, no correction"
    )
    rng = np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(asked, WIDTH, 2)))[0].transpose(0, 2, 1)
    if picture is not None:
        draw(outcome.release, slices(model, asked, 2 * boundary, plane)[asked // 2], picture)
    few = max(1, asked // 10)
    space = np.linalg.qr(rng.normal(size=(few, WIDTH, 3)))[0].transpose(0, 2, 1)
    head("regions around demonstrations, as wide as the boundary is far, times a factor")
    for name, some, budget in (
        (f"{asked:,} planes, 2 x", slices(model, asked, 2 * boundary, plane), 500),
        (f"{few:,} 3-D slices, 2 x", slices(model, few, 2 * boundary, space), 4000),
        (f"{few:,} boxes, 0.5 x", around_demonstrations(model, few, 0.5 * boundary), 500),
    ):
        for method in METHODS:
            row(name, method, outcome.release, some, margin=0.0, budget=budget)


def draw(release: Path, region: Region, picture: Path) -> None:
    """Draw the leaves of a plane, and where the norm's limit and the floor run."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    proof, model = certify(release, [region], margin=0.0), iirl.load_release(release)
    assert proof.proved
    assert region.origin is not None
    assert region.axes is not None
    checker = Reward(*stated(release))
    side = np.linspace(region.low[0], region.high[0], 300)
    u = np.stack(np.meshgrid(side, side), axis=-1)
    states = region.origin + u.reshape(-1, 2) @ region.axes
    reward = model(states).reshape(300, 300)
    violation = model.violation(torch.tensor(states)).numpy().reshape(300, 300)
    figure = Figure(figsize=(5.2, 5.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for low, high in leaves(iter(proof.judged[0].tree), region.low, region.high):
        inside = checker.violation("support", box(low, high, region.origin, region.axes)) <= 0
        color = "#fbf3cf" if inside else "#cfe3f7"
        axes.add_patch(Rectangle(low, *(high - low), fc=color, ec="#8a8a8a", lw=0.3))
    axes.contour(side, side, violation, [0.0], colors="#c03030", linewidths=1.6)
    axes.contour(side, side, reward, [0.01], colors="#4b2991", linewidths=1.6, linestyles="--")
    axes.set(xlim=side[[0, -1]], ylim=side[[0, -1]], xlabel="u_1", ylabel="u_2", aspect="equal")
    figure.savefig(picture, metadata={"Software": None})


def stated(release: Path) -> tuple[object, object, object]:
    """Return the formula, corrections and tensors of a release."""
    manifest = json.loads((release / MANIFEST).read_bytes())
    return manifest["formula"], manifest["corrections"], load_file(release / TENSORS)


def surface(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return states `[count, 16]` on a curved two-dimensional surface, with a little noise."""
    u = rng.uniform(-1, 1, (count, 2))
    turn = np.random.default_rng(7).normal(size=(2, WIDTH))
    phase = np.random.default_rng(8).uniform(0, 2 * np.pi, WIDTH)
    return np.sin(u @ turn + phase) + 0.01 * rng.normal(size=(count, WIDTH))


SURFACE = """
report = []
[flywheel]
rounds = 0
[source]
use = "npz"
path = "surface.npz"
[encoder]
use = "moe-autoencoder"
experts = 4
bottleneck = 6
steps = 4000
learning_rate = 0.01
[mapping]
use = "linear"
[[norm]]
use = "support"
boundary = "auto"
[[audit]]
use = "sobol"
budget = 64
[[refine]]
use = "envelope"
"""


def release_with(folder: Path, out: Path, correction: Correction) -> None:
    """Write a release with one more correction, whole in itself."""
    out.mkdir()
    manifest = json.loads((folder / MANIFEST).read_bytes())
    tensors = load_file(folder / TENSORS)
    manifest["corrections"].append(correction.describe())
    tensors |= {f"correction.{correction.id}.{n}": a for n, a in correction.tensors().items()}
    save_file(tensors, out / TENSORS)
    (out / "CARD.md").write_bytes((folder / "CARD.md").read_bytes())
    manifest["files"][TENSORS] = hashlib.sha256((out / TENSORS).read_bytes()).hexdigest()
    (out / MANIFEST).write_text(json.dumps(manifest))


ANSWERS = ("proved", "flaw", "undecided")
COLUMNS = (*ANSWERS, "settled", "leaves", "bytes", "boxes", "prover", "checker")


def head(title: str) -> None:
    """Print what the rows that follow are of."""
    print(f"\n{title}")
    print(f"{'':22}{'bounds':11}" + "".join(f"{column:>10}" for column in COLUMNS))


def row(
    name: str,
    method: str,
    release: Path,
    regions: Sequence[Region] | None,
    *,
    margin: float,
    budget: int,
) -> None:
    """Certify and print a row."""
    proof = certify(release, regions, margin=margin, budget=budget, method=method)  # type: ignore[arg-type]
    told = proof.to_json()
    cells = [
        *(f"{count:,}" for count in proof.answers.values()),
        f"{100 * told['settled']:.1f} %",
        f"{told['leaves']:,}",
        f"{len(proof.certificate or b''):,}",
        f"{told['boxes']:,}",
        *(f"{seconds:.2f}" for seconds in proof.seconds),
    ]
    print(f"{name:22}{method:11}" + "".join(f"{cell:>10}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
