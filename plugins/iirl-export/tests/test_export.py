"""A file computes what its release computes, or there is no file."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import iirl_engine as iirl
from iirl_engine.api import Code, Context
from iirl_engine.builtin.norms import BoxNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, SupportOptions
from iirl_engine.corrections.base import Correction
from iirl_engine.corrections.cut import Cut
from iirl_engine.corrections.fade import Fade
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.corrections.revision import Revision
from iirl_engine.corrections.sculpt import Sculpt
from iirl_engine.demonstrations import check, take
from iirl_engine.errors import ArtifactError, PluginError, UsageError
from iirl_engine.options import NoOptions
from iirl_engine.plugins import FIRST_PARTY, Plugins
from iirl_engine.registry import Registry
from iirl_engine.reward import RewardModel
from iirl_export import export, exported, nearest
from iirl_export.formats import METADATA
from iirl_export.parity import broken_states, difference, finite_states

FORMATS = ("onnx", "torch")
ROWS = (1, 8, 1000)
REGISTRY = Registry(Plugins())
ENCODERS, MAPPINGS = (
    {e.offer.name: e for e in REGISTRY.entries(kind) if e.dist in FIRST_PARTY}
    for kind in ("encoder", "mapping")
)
QUICK = {"steps": 20}
CHAIN = """
report = []
[flywheel]
rounds = 1
[source]
use = "figure1"
[encoder]
use = "moe-autoencoder"
steps = 200
[mapping]
use = "linear"
[[norm]]
use = "support"
boundary = 0.34
[[audit]]
use = "sobol"
budget = 2048
[[refine]]
use = "envelope"
"""


def demonstrations(width: int = 3, count: int = 60) -> iirl.Demonstrations:
    generator = np.random.default_rng(3)
    return check(
        generator.normal(size=(count, width)),
        negatives=generator.normal(4, 1, size=(count, width)),
        domain=iirl.Domain((-6.0,) * width, (6.0,) * width),
    )


def model_of(
    encoder: str = "moe-autoencoder",
    mapping: str = "exp",
    data: iirl.Demonstrations | None = None,
    corrections: tuple[Correction, ...] = (),
    **options: Any,
) -> RewardModel:
    data = demonstrations() if data is None else data
    entry = ENCODERS[encoder]
    known = {field.name for field in attrs.fields(entry.offer.options)}
    chosen = {name: value for name, value in QUICK.items() if name in known} | options
    learned = entry.build(entry.offer.options(**chosen))
    context = Context("encoder", encoder, 0, 0)
    learned.fit(data, context)
    g = MAPPINGS[mapping].build(MAPPINGS[mapping].offer.options())
    with torch.no_grad():
        g.fit(learned.encode(torch.tensor(data.states)).loss, context)
    support = SupportNorm(SupportOptions(boundary=1.0))
    box = BoxNorm(BoxOptions(features=(data.feature_names[0],), low=(-2.0,), high=(2.0,)))
    norms = {"support": support, "box": box}
    for norm in norms.values():
        norm.fit(data, context)
    assert data.domain is not None
    return RewardModel(learned, g, norms, data, data.domain, corrections)


def corrections_for(data: iirl.Demonstrations) -> tuple[Correction, ...]:
    """Every kind of correction, each where it takes something off demonstrations."""
    some = data.states[:6]
    shared: dict[str, Any] = {"refiner": "test", "round": 1}
    kernels = {"radii": np.linspace(0.5, 1.5, 6), "strengths": np.full(6, 0.3)}
    return (
        Kernels(id="w", centers=some, profile="wendland", **kernels, **shared),
        Kernels(id="g", centers=-some, profile="gaussian", **kernels, **shared),
        Kernels(id="l", centers=2 * some, effect="lift", **kernels, **shared),
        Kernels(id="none", centers=some[:0], radii=[], strengths=[], **shared),
        Fade(id="near", norm="support", start=-1.0, end=-0.2, **shared),
        Fade(id="wall", norm="box", start=-1.5, end=0.0, **shared),
        Cut(
            id="cut",
            normals=[[1.0, 0.5, 0.0], [0.0, 1.0, 1.0]],
            offsets=[1.5, 2.0],
            widths=[1.0, 0.5],
            **shared,
        ),
        Sculpt(id="sculpt", knots=[0.0, 0.4, 1.0], values=[0.0, 0.1, 0.9], **shared),
        Sculpt(
            id="ball",
            knots=[0.0, 0.5, 1.0],
            values=[0.0, 0.2, 1.0],
            center=some[0],
            inner=0.5,
            outer=1.5,
            **shared,
        ),
    )


def coded_for(model: RewardModel) -> Kernels:
    """Kernels around the codes of demonstrations and of what lies beside them."""
    states = torch.tensor(sample(model.demonstrations, 20))
    with torch.no_grad():
        view = model.view(states)
        width = view.features.shape[1] + 1
        given: dict[str, Any] = {
            "space": "code",
            "profile": "gaussian",
            "scales": np.linspace(0.5, 1.5, width),
            "strengths": np.full(20, 0.2),
            "radii": np.full(20, 1.5),
        }
        blank = Kernels(
            id="c",
            refiner="test",
            round=1,
            centers=np.zeros((20, width)),
            **given,
        )
        return attrs.evolve(blank, centers=blank.places(view).numpy())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoder", ["moe-autoencoder", "knn"])
def test_kernels_in_the_space_of_codes(encoder: str, format: str, tmp_path: Path) -> None:
    model = model_of(encoder)
    corrected = model.with_corrections([coded_for(model)])
    states = sample(model.demonstrations, 200)
    assert not np.array_equal(corrected(states), model(states))
    export(corrected, tmp_path / "reward", format)
    assert_same(corrected, tmp_path / "reward", format)


def test_a_revision_is_exported_as_the_parts_that_hold(tmp_path: Path) -> None:
    model = model_of("knn")
    data = model.demonstrations
    keep = np.arange(len(data.states)) % 3 > 0
    rest = model_of("knn", data=take(data, keep))
    rows = np.flatnonzero(~keep)
    revision = Revision.of(rest.encoder, rest.mapping, rows, id="u", refiner="test", round=1)
    revised = model.with_corrections([revision])
    states = sample(data, 200)
    assert not np.array_equal(revised(states), model(states))
    export(revised, tmp_path / "reward")
    assert_same(revised, tmp_path / "reward", "onnx")


def score(path: Path, format: str, states: np.ndarray) -> np.ndarray:
    """Score with the runtime alone, as a user without the engine does."""
    if format == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(["reward"], {"states": states})[0])
    program = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return program(torch.tensor(states)).numpy()


def sample(data: iirl.Demonstrations, count: int) -> np.ndarray:
    """Demonstrations, their neighbourhood and places far from them."""
    generator = np.random.default_rng(5)
    chosen = data.states[generator.integers(len(data.states), size=count)]
    return chosen + generator.normal(size=chosen.shape) * generator.choice([0, 0.3, 5], (count, 1))


def assert_same(model: RewardModel, path: Path, format: str, tolerance: float = 1e-9) -> None:
    for count in ROWS:
        states = sample(model.demonstrations, count)
        if count >= 8:
            states[1, 0], states[3, 1], states[5, 2] = np.nan, np.inf, -np.inf
        found, expected = score(path, format, states), model(states)
        assert found.dtype == np.float64
        assert found.shape == (count,)
        assert np.abs(found - expected).max(initial=0) <= tolerance
        if count >= 8:
            assert (found[[1, 3, 5]] == 0).all()
    assert 0.05 < np.mean(expected > 0.01) < 1


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_other_encoder(encoder: str, format: str, tmp_path: Path) -> None:
    model = model_of(encoder)
    found = export(model, tmp_path / "reward", format)
    assert found.difference <= 1e-9
    assert_same(model, tmp_path / "reward", format)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_mapping(mapping: str, tmp_path: Path) -> None:
    model = model_of(mapping=mapping)
    export(model, tmp_path / "reward")
    assert_same(model, tmp_path / "reward", "onnx")


@pytest.mark.parametrize("format", FORMATS)
def test_every_correction(format: str, tmp_path: Path) -> None:
    model = model_of()
    corrected = model.with_corrections(corrections_for(model.demonstrations))
    states = sample(model.demonstrations, 1000)
    with torch.no_grad():
        base = model.reward(torch.tensor(states))
        for correction in corrected.corrections:
            alone = model.with_corrections([correction]).reward(torch.tensor(states))
            assert (alone != base).any() or correction.count == 0
    export(corrected, tmp_path / "reward", format)
    assert_same(corrected, tmp_path / "reward", format)


def test_distances_in_many_features_and_far_from_zero(tmp_path: Path) -> None:
    """Where the engine has no kd-tree, and where squares cancel."""
    wide = demonstrations(width=20)
    data = attrs.evolve(wide, states=wide.states + 1e5, domain=None, negatives=wide.negatives + 1e5)
    data = attrs.evolve(data, domain=iirl.Domain((1e5 - 6.0,) * 20, (1e5 + 6.0,) * 20))
    model = model_of("knn", data=data)
    fade = Fade(id="f", norm="support", start=-0.9, end=0.0, refiner="test", round=1)
    found = export(model.with_corrections([fade]), tmp_path / "reward.onnx")
    assert found.difference <= 1e-9


@pytest.mark.parametrize("format", FORMATS)
def test_float32_in_and_out(format: str, tmp_path: Path) -> None:
    model = model_of()
    model = model.with_corrections(corrections_for(model.demonstrations))
    found = export(model, tmp_path / "reward", format, dtype="float32")
    assert (found.dtype, found.tolerance) == ("float32", 1e-4)
    for count in ROWS:
        states = sample(model.demonstrations, count).astype(np.float32)
        rewards = score(tmp_path / "reward", format, states)
        assert rewards.dtype == np.float32
        assert np.abs(rewards - model(states)).max(initial=0) <= 1e-6


def test_rows_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    model = model_of()
    export(model, tmp_path / "reward")
    states = sample(model.demonstrations, 50)
    whole = score(tmp_path / "reward", "onnx", states)
    single = [score(tmp_path / "reward", "onnx", states[i : i + 1])[0] for i in range(50)]
    assert np.abs(whole - single).max() < 1e-12


class Branching(iirl.Encoder[NoOptions]):
    """Looks at numbers to decide what to do."""

    def fit(self, demonstrations: iirl.Demonstrations, context: Context) -> None:
        """Learn nothing."""

    def encode(self, states: torch.Tensor) -> Code:
        loss = states.square().sum(dim=1)
        return Code(states, loss if float(loss.sum()) > 1 else 2 * loss)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, tensors: Any, demonstrations: iirl.Demonstrations) -> None:
        """Take back nothing."""


class BranchingNorm(SupportNorm):
    def violation(self, states: torch.Tensor) -> torch.Tensor:
        return super().violation(torch.from_numpy(states.detach().numpy()))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoder_that_branches_is_refused_by_name(format: str, tmp_path: Path) -> None:
    model = model_of().evolve(encoder=Branching(NoOptions()))
    with pytest.raises(UsageError, match=r"^encoder Branching cannot be exported") as refused:
        export(model, tmp_path / "reward", format)
    assert refused.value.got
    assert files(tmp_path) == []


def test_a_norm_that_branches_is_refused_only_where_a_correction_asks_it(tmp_path: Path) -> None:
    model = model_of()
    norm = BranchingNorm(SupportOptions(boundary=1.0))
    norm.fit(model.demonstrations, Context("norm", "support", 0, 0))
    model = model.evolve(norms=model.norms | {"support": norm})
    export(model, tmp_path / "fine.onnx")
    fade = Fade(id="f", norm="support", start=-0.9, end=0.0, refiner="test", round=1)
    with pytest.raises(UsageError, match=r"^norm support cannot be exported"):
        export(model.with_corrections([fade]), tmp_path / "reward.onnx")
    assert files(tmp_path) == ["fine.onnx"]


@pytest.fixture
def wrong_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program take the second nearest expert state for the nearest."""
    right = nearest.Products.find
    monkeypatch.setattr(
        nearest.Products, "find", lambda self, queries, k: right(self, queries, k + 1)[:, 1:]
    )


@pytest.mark.usefixtures("wrong_distance")
@pytest.mark.parametrize(("format", "dtype"), [("onnx", "float32"), ("torch", "float64")])
def test_no_parity_no_file(format: str, dtype: str, tmp_path: Path) -> None:
    (tmp_path / "reward").write_text("what was there")
    with pytest.raises(PluginError, match="does not compute the reward") as refused:
        export(model_of("knn"), tmp_path / "reward", format, dtype=dtype)
    assert "difference of" in str(refused.value.got)
    assert files(tmp_path) == ["reward"]
    assert (tmp_path / "reward").read_text() == "what was there"


def test_a_file_that_cannot_be_read_back_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = exported.FORMATS["onnx"]
    cut = attrs.evolve(kind, content=lambda program, metadata: kind.content(program, metadata)[:99])
    monkeypatch.setitem(exported.FORMATS, "onnx", cut)
    with pytest.raises(PluginError, match="cannot be read back"):
        export(model_of(), tmp_path / "reward.onnx")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "broken",
    [
        lambda rewards: rewards + 1e-3,
        lambda rewards: rewards[:, None],
        lambda rewards: rewards.astype(np.float32),
        lambda rewards: np.where(np.arange(len(rewards)) == len(rewards) - 1, np.nan, rewards),
        lambda rewards: rewards if len(rewards) > 1 else rewards + 1e-3,
    ],
)
def test_the_comparison_sees(broken: Any) -> None:
    model = model_of()
    float64 = np.dtype(np.float64)
    assert difference(model, lambda states: model(states), float64)[0] == 0
    assert difference(model, lambda states: broken(model(states)), float64)[0] > 1e-4


def test_the_comparison_sees_a_single_kernel() -> None:
    """In ten dimensions no random state meets it, so its own centre must be looked at."""
    model = model_of(data=demonstrations(width=10))
    kernel = Kernels(
        id="k",
        centers=model.demonstrations.states[:1] + 0.01,
        radii=[0.01],
        strengths=[1.0],
        refiner="test",
        round=1,
    )
    forgotten = difference(model.with_corrections([kernel]), model, np.dtype(np.float64))[0]
    assert forgotten > 0.01


def test_what_is_compared() -> None:
    model = model_of()
    states = finite_states(model)
    assert np.isfinite(states).all()
    assert {*map(bytes, model.demonstrations.states)} <= {*map(bytes, states)}
    broken = broken_states(model)
    assert not np.isfinite(broken).all(axis=1).any()
    assert (~np.isfinite(broken)).any(axis=0).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "flywheel.toml").write_text(CHAIN)
    iirl.Flywheel.from_file(folder / "flywheel.toml", out=folder / "out").run()
    return folder / "out"


def iirl_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iirl_engine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_exports_a_run(run: Path, format: str, tmp_path: Path) -> None:
    file = tmp_path / "reward"
    done = iirl_command("export", run, file, "--format", format, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    stable = json.loads((run / "channels" / "stable.json").read_bytes())
    manifest = (run / "releases" / stable["release"] / "manifest.json").read_bytes()
    assert found["manifest"] == stable["manifest"] == hashlib.sha256(manifest).hexdigest()
    assert found["size"] == file.stat().st_size
    assert found["difference"] <= found["tolerance"]
    assert metadata(file, format)["iirl.manifest"] == stable["manifest"]
    assert json.loads(metadata(file, format)["iirl.features"]) == ["x", "y", "z"]
    model = iirl.load_release(run)
    states = model.demonstrations.states
    assert np.abs(score(file, format, states) - model(states)).max() <= 1e-9


def metadata(file: Path, format: str) -> dict[str, str]:
    if format == "onnx":
        return {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    extra = {METADATA: ""}
    torch.export.load(io.BytesIO(file.read_bytes()), extra_files=extra)
    return json.loads(extra[METADATA])


def test_an_onnx_model_says_what_goes_in_and_out(tmp_path: Path) -> None:
    export(model_of(), tmp_path / "reward.onnx")
    proto = onnx.load(tmp_path / "reward.onnx")
    onnx.checker.check_model(proto, full_check=True)
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert sizes == {"states": ["n", 3], "reward": ["n"]}


def test_a_release_that_was_changed_is_not_exported(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "0000"
    copy.mkdir()
    for file in (run / "releases" / "0000").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "CARD.md").open("a") as card:
        card.write("!")
    with pytest.raises(ArtifactError):
        export(copy, tmp_path / "reward.onnx")
    assert files(tmp_path) == ["0000"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"format": "onxx"}, "did you mean 'onnx'"),
        ({"dtype": "float16"}, "float64"),
        ({"path": "missing/reward.onnx"}, "no such directory"),
    ],
)
def test_what_cannot_be_asked_for(arguments: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = {"path": "reward.onnx"} | arguments
    with pytest.raises(UsageError) as refused:
        export(model_of(), **given | {"path": tmp_path / given["path"]})
    assert said in str(refused.value)


def test_exit_codes(run: Path, tmp_path: Path) -> None:
    assert iirl_command("export", tmp_path, tmp_path / "reward").returncode == 3
    assert iirl_command("export", run, tmp_path / "no" / "reward").returncode == 2
    assert iirl_command("export", run, tmp_path / "reward", "--format", "zip").returncode == 2
    assert files(tmp_path) == []


def test_the_hook_module_is_light() -> None:
    code = (
        "import sys, iirl_export.hooks\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'onnxscript', 'click'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
