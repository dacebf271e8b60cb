"""From a release to a certificate: what is proved, what is refuted, what the checker refuses."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import iirl_engine as iirl
from iirl_certify import Proof, Region, around_demonstrations, certify, slices
from iirl_certify.auditor import BranchAndBound
from iirl_certify.certifying import sealed
from iirl_certify.options import BranchAndBoundOptions
from iirl_certify.search import Search
from iirl_engine import Context, Cut, Kernels, Sculpt, UsageError, certificate, cli
from iirl_engine.audit import AuditJob, run_audit, verify
from iirl_engine.certificate import Refused, check, leaves
from iirl_engine.corrections.base import Correction
from iirl_engine.errors import ArtifactError
from iirl_engine.layout import MANIFEST, TENSORS
from iirl_engine.release import release_folder
from iirl_engine.target import Target

DOCS = Path(__file__).parents[3] / "docs"
CHAIN = """
report = []
[flywheel]
rounds = {rounds}
[source]
use = "npz"
path = "demos.npz"
[domain]
low = [-1.0, -1.0]
high = [1.0, 1.0]
[encoder]
use = "{encoder}"
{options}
[mapping]
use = "linear"
[[norm]]
use = "support"
boundary = 0.4
[[norm]]
use = "box"
features = ["x"]
low = [-0.9]
high = [0.9]
[[audit]]
use = "sobol"
budget = 2048
[[refine]]
use = "{refiner}"
"""
MOE = "experts = 2\nbottleneck = 1\nsteps = 300"


def run(folder: Path, *, rounds: int, refiner: str = "norm-mask", encoder: str = "knn") -> Path:
    """Run a chain in two dimensions; return its newest release."""
    u = np.linspace(-0.7, 0.7, 30)
    states = np.stack([u, 0.5 * np.sin(4 * u)], axis=1)
    np.savez(folder / "demos.npz", states=states, feature_names=np.array(["x", "y"]))
    options = MOE if encoder == "moe-autoencoder" else ""
    chain = folder / "chain.toml"
    chain.write_text(CHAIN.format(rounds=rounds, refiner=refiner, encoder=encoder, options=options))
    return iirl.Flywheel.from_file(str(chain), out=str(folder / "run")).run().release


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture as learned, which endorses what norms forbid."""
    return run(tmp_path_factory.mktemp("learned"), rounds=0, encoder="moe-autoencoder")


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose fades enforce its norms; the encoder declares no formula."""
    return run(tmp_path_factory.mktemp("masked"), rounds=2)


@pytest.fixture(scope="module")
def part(learned: Path) -> Proof:
    """What can be proved of the mixture: of some regions everything, of others not."""
    rng = np.random.default_rng(0)
    middle = rng.uniform(-1, 1, (24, 2))
    regions = [Region(m - 0.15, m + 0.15) for m in middle]
    return certify(learned, regions, budget=2000)


def files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / MANIFEST).read_bytes(), (folder / TENSORS).read_bytes()


def remade(folder: Path, out: Path, change: Any) -> Path:
    """Write a release after a change to its manifest and tensors, with hashes that fit."""
    out.mkdir()
    manifest, tensors = json.loads((folder / MANIFEST).read_bytes()), load_file(folder / TENSORS)
    change(manifest, tensors)
    save_file(tensors, out / TENSORS)
    (out / "CARD.md").write_bytes((folder / "CARD.md").read_bytes())
    manifest["files"][TENSORS] = hashlib.sha256((out / TENSORS).read_bytes()).hexdigest()
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


def with_correction(folder: Path, out: Path, correction: Correction) -> Path:
    def change(manifest: Any, tensors: Any) -> None:
        manifest["corrections"].append(correction.describe())
        for name, array in correction.tensors().items():
            tensors[f"correction.{correction.id}.{name}"] = array

    return remade(folder, out, change)


def spike(**changes: Any) -> Kernels:
    parts: dict[str, Any] = {
        "id": "spike",
        "refiner": "nobody",
        "round": 1,
        "centers": np.array([[0.31, -0.87]]),
        "radii": np.array([0.03]),
        "strengths": np.array([1.0]),
        "effect": "lift",
    }
    return Kernels(**parts | changes)


STRANGE = (
    Cut(id="c", refiner="r", round=1, normals=[[1.0, 0.0]], offsets=[2.0], widths=[0.5]),
    Kernels(
        id="k",
        refiner="r",
        round=1,
        centers=[[0.0, 0.0, 9.0]],
        radii=[1.0],
        strengths=[1.0],
        space="code",
        scales=[1.0, 1.0, 1.0],
    ),
    Sculpt(id="s", refiner="r", round=1, knots=[0.0, 1.0], values=[0.0, 0.5]),
)


def test_fades_certify_an_encoder_of_any_kind(masked: Path) -> None:
    proof = certify(masked)
    assert proof.proved
    assert proof.certificate is not None
    check(*files(masked), proof.certificate)
    assert json.loads(proof.certificate)["regions"] == [{"tree": "0"}]


def test_a_spike_is_found_and_refused(masked: Path, tmp_path: Path) -> None:
    sound = certify(masked, margin=0.02).certificate
    assert sound is not None
    spiked = with_correction(masked, tmp_path / "spiked", spike())
    proof = certify(spiked, margin=0.02)
    assert not proof.proved
    assert proof.certificate is None
    assert len(proof.counterexamples)
    model = iirl.load_release(spiked)
    assert (model(proof.counterexamples) > 0.01).all()
    forbidden = model.violations(torch.tensor(proof.counterexamples))
    assert (torch.stack([forbidden["support"] - 0.02, forbidden["box"]]).amax(dim=0) > 0).all()
    with pytest.raises(Refused, match="another release"):
        check(*files(spiked), sound)
    # Bound to the spiked release, the same proof no longer holds.
    body = json.loads(sound)
    body.pop("sha256")
    body["release"] = hashlib.sha256(files(spiked)[0]).hexdigest()
    with pytest.raises(Refused, match="not proved"):
        check(*files(spiked), sealed(body))


@pytest.mark.parametrize("strange", STRANGE, ids=lambda c: c.kind)
def test_a_correction_that_nothing_is_known_of_proves_nothing(
    masked: Path, tmp_path: Path, strange: Correction
) -> None:
    sound = certify(masked).certificate
    assert sound is not None
    other = with_correction(masked, tmp_path / "other", strange)
    with pytest.raises(UsageError, match="cannot be certified"):
        certify(other)
    body = json.loads(sound)
    body.pop("sha256")
    body["release"] = hashlib.sha256(files(other)[0]).hexdigest()
    with pytest.raises(Refused, match="unknown"):
        check(*files(other), sealed(body))
    model = iirl.load_release(other)
    auditor = BranchAndBound(BranchAndBoundOptions(budget=100))
    result = run_audit(AuditJob(auditor, model, 0.01, Context("audit", "bab", 0, 1)))
    assert result.status == "undecided"


@pytest.mark.parametrize("what", ["encoder.decoder_bias", "demonstrations.states", "mapping.cap"])
def test_what_is_edited_in_place_is_refused(part: Proof, learned: Path, what: str) -> None:
    manifest, tensors = files(learned)
    assert part.certificate is not None
    array = load_file(learned / TENSORS)[what].tobytes()
    at = tensors.index(array) + 6
    edited = tensors[:at] + bytes([tensors[at] ^ 1]) + tensors[at + 1 :]
    with pytest.raises(Refused, match="another release"):
        check(manifest, edited, part.certificate)


def test_every_region_is_judged(part: Proof, learned: Path) -> None:
    model = iirl.load_release(learned)
    assert part.answers["proved"] > 0
    assert part.answers["counterexample"] > 0
    rng = np.random.default_rng(1)
    for region, judged in zip(part.regions, part.judged, strict=True):
        states = rng.uniform(region.low, region.high, (2000, 2))
        forbidden = model.violation(torch.tensor(states)).numpy() > 0
        if judged.answer == "proved":
            assert not (forbidden & (model(states) > 0.01)).any()
            corners = [*leaves(iter(judged.tree), region.low, region.high)]
            assert len(corners) == judged.leaves
            assert sum(np.prod(high - low) for low, high in corners) == pytest.approx(0.09)
    assert (model(part.counterexamples) > 0.01).all()


def test_slices_and_boxes_around_demonstrations(learned: Path) -> None:
    model = iirl.load_release(learned)
    boxes = around_demonstrations(model, 5, 0.05)
    assert len(boxes) == 5
    assert certify(learned, boxes).proved  # no norm forbids anything so near
    turn = np.array([[0.6, 0.8]])
    lines = slices(model, 5, 0.1, turn)
    proof = certify(learned, lines)
    assert proof.proved
    assert proof.certificate is not None
    check(*files(learned), proof.certificate)
    assert len(json.loads(proof.certificate)["regions"]) == 5
    far = certify(learned, slices(model, 5, 2.0, turn), budget=3000)
    rng = np.random.default_rng(2)
    for region, judged in zip(far.regions, far.judged, strict=True):
        assert region.axes is not None
        states = region.origin + rng.uniform(region.low, region.high, (2000, 1)) @ region.axes
        flawed = (model(states) > 0.01) & (model.violation(torch.tensor(states)).numpy() > 0)
        assert not (flawed.any() and judged.answer == "proved")


def test_the_same_release_has_the_same_certificate(part: Proof, learned: Path) -> None:
    again = certify(learned, part.regions, budget=2000)
    assert again.certificate == part.certificate
    assert np.array_equal(again.counterexamples, part.counterexamples)


def test_a_budget_that_ends_proves_nothing(learned: Path, part: Proof) -> None:
    hard = max(part.judged, key=lambda judged: judged.leaves)
    region = part.regions[part.judged.index(hard)]
    proof = certify(learned, [region], budget=hard.boxes - 1)
    assert proof.judged[0].answer == "undecided"
    assert proof.judged[0].boxes == hard.boxes - 1
    assert proof.certificate is None
    with pytest.raises(UsageError, match="nothing is proved"):
        proof.write("nowhere.json")


def test_what_cannot_be_asked_is_refused(learned: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="margin"):
        certify(learned, margin=float("nan"))

    def silent(manifest: Any, tensors: Any) -> None:
        del manifest["formula"]

    with pytest.raises(UsageError, match="states no formula"):
        certify(remade(learned, tmp_path / "old", silent))

    def wrong(manifest: Any, tensors: Any) -> None:
        manifest["formula"]["loss"][-1]["of"] = 1

    with pytest.raises(ArtifactError, match="does not hold what its manifest says"):
        certify(remade(learned, tmp_path / "wrong", wrong))


def test_one_thousand_corrupted_certificates_are_rejected(part: Proof, learned: Path) -> None:
    """Without the hash every corruption counts; with it recomputed, those that prove no longer."""
    manifest, tensors = files(learned)
    whole = part.certificate
    assert whole is not None
    check(manifest, tensors, whole)
    rng = np.random.default_rng(0)
    rejected = 0
    for trial in range(1000):
        kind = KINDS[trial % len(KINDS)]
        with pytest.raises(Refused):
            check(manifest, tensors, kind(whole, rng))
        rejected += 1
    assert rejected == 1000


def flipped(whole: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(whole)))
    return whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]


def truncated(whole: bytes, rng: np.random.Generator) -> bytes:
    return whole[: int(rng.integers(len(whole)))]


def padded(whole: bytes, rng: np.random.Generator) -> bytes:
    return whole + bytes(rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8))


def _resealed(whole: bytes, **changes: Any) -> bytes:
    body = json.loads(whole) | changes
    body.pop("sha256")
    return sealed(body)


def another_release(whole: bytes, rng: np.random.Generator) -> bytes:
    return _resealed(whole, release=hashlib.sha256(rng.bytes(8)).hexdigest())


def another_floor(whole: bytes, rng: np.random.Generator) -> bytes:
    return _resealed(whole, floor=float(rng.uniform(0, 1)))


def another_domain(whole: bytes, rng: np.random.Generator) -> bytes:
    return _resealed(whole, domain={"low": [-1.0, -1.0], "high": [1.0, float(rng.uniform(0, 9))]})


def impossible_margin(whole: bytes, rng: np.random.Generator) -> bytes:
    return _resealed(whole, margin=-float(rng.uniform(0, 1)))


def fewer_norms(whole: bytes, rng: np.random.Generator) -> bytes:
    return _resealed(whole, norms=[["support"], ["box"], []][int(rng.integers(3))])


def _tree(whole: bytes, rng: np.random.Generator, change: Any) -> bytes:
    """Change the tree of a region that has more than one leaf."""
    body = json.loads(whole)
    body.pop("sha256")
    trees = [region["tree"] for region in body["regions"]]
    at = int(rng.choice([i for i, tree in enumerate(trees) if len(tree) > 4]))
    body["regions"][at]["tree"] = change(trees[at])
    return sealed(body)


def dropped_subtree(whole: bytes, rng: np.random.Generator) -> bytes:
    def change(tree: str) -> str:
        at = int(rng.integers(1, len(tree)))
        return tree[:at] + tree[at + _extent(tree, at) :]

    return _tree(whole, rng, change)


def added_node(whole: bytes, rng: np.random.Generator) -> bytes:
    def change(tree: str) -> str:
        return tree + "012"[int(rng.integers(3))]

    return _tree(whole, rng, change)


def split_without_halves(whole: bytes, rng: np.random.Generator) -> bytes:
    def change(tree: str) -> str:
        at = int(rng.choice([at for at, code in enumerate(tree) if code == "0"]))
        return tree[:at] + "12"[int(rng.integers(2))] + tree[at + 1 :]

    return _tree(whole, rng, change)


def unknown_axis(whole: bytes, rng: np.random.Generator) -> bytes:
    def change(tree: str) -> str:
        at = int(rng.choice([at for at, code in enumerate(tree) if code != "0"]))
        return tree[:at] + chr(ord("3") + int(rng.integers(99))) + tree[at + 1 :]

    return _tree(whole, rng, change)


def pruned_root(whole: bytes, rng: np.random.Generator) -> bytes:
    """One leaf in place of a tree: the prover has tried, and it was not enough."""
    return _tree(whole, rng, lambda tree: "0")


def all_of_the_domain(whole: bytes, rng: np.random.Generator) -> bytes:
    """A proof of a part, taken for one of the domain."""
    body = json.loads(whole)
    at = int(rng.integers(len(body["regions"])))
    return _resealed(whole, regions=[{"tree": body["regions"][at]["tree"]}])


def _extent(tree: str, at: int) -> int:
    """Return how many nodes a subtree has."""
    open_, end = 1, at
    while open_:
        open_ += -1 if tree[end] == "0" else 1
        end += 1
    return end - at


KINDS = (
    flipped,
    truncated,
    padded,
    another_release,
    another_floor,
    another_domain,
    impossible_margin,
    fewer_norms,
    dropped_subtree,
    added_node,
    split_without_halves,
    unknown_axis,
    pruned_root,
    all_of_the_domain,
)


def test_a_changed_region_is_checked_as_what_it_claims(part: Proof, learned: Path) -> None:
    """A region moved to where there are flaws is refused, however often it is tried."""
    manifest, tensors = files(learned)
    assert part.certificate is not None
    body = json.loads(part.certificate)
    body.pop("sha256")
    flaws = part.counterexamples
    for flaw in flaws[:20]:
        moved = copy.deepcopy(body)
        for region in moved["regions"]:
            region["low"], region["high"] = (flaw - 0.15).tolist(), (flaw + 0.15).tolist()
        with pytest.raises(Refused, match="not proved"):
            check(manifest, tensors, sealed(moved))


def audited(folder: Path, budget: int) -> Any:
    model = iirl.load_release(folder)
    auditor = BranchAndBound(BranchAndBoundOptions(budget=budget))
    result = run_audit(AuditJob(auditor, model, 0.01, Context("audit", "bab", 0, 1)))
    return verify([result], model, 0.01, ())[0]


def test_the_auditor_is_clean_only_with_a_proof(masked: Path, learned: Path) -> None:
    assert audited(masked, 100).result.status == "clean"
    assert BranchAndBound.exhaustive  # so that no few queries are held against it
    found = audited(learned, 3000)
    assert found.result.status == "findings"
    assert len(found.new)
    assert found.result.queries <= 3000


def test_an_audit_that_proves_half_is_undecided(masked: Path, tmp_path: Path) -> None:
    faint = spike(strengths=np.array([0.0100001]), radii=np.array([0.001]))
    folder = with_correction(masked, tmp_path / "faint", faint)
    result = audited(folder, 60).result
    assert result.status == "undecided"
    assert "of the domain proved" in result.reason
    assert result.queries <= 60


def test_bounds_are_paid_for(masked: Path) -> None:
    target = Target(iirl.load_release(masked), 0.01, 10)
    target.spend(4)
    assert target.remaining == 6
    assert target.formula().parts["loss"] is None


def test_a_run_directory_stands_for_its_stable_release(masked: Path) -> None:
    run_folder = masked.parent.parent
    assert release_folder(run_folder) == masked
    assert certify(run_folder).proved


def test_proofs_are_frozen(part: Proof) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        part.certificate = None  # type: ignore[misc]


def iirl_says(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(str(ended.value.code)), out, err


def test_the_commands_certify_and_verify(
    masked: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "masked.json"
    code, out, _ = iirl_says(capsys, "certify", masked, "--out", file, "--margin", "0.02", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["proved"]
    assert told["certificate"] == str(file)
    documented = (DOCS / "certificates.md").read_text().split("## `iirl certify --json`")[1]
    assert all(f"`{name}`" in documented for name in told)
    code, out, _ = iirl_says(capsys, "verify", masked, "--certificate", file, "--json")
    assert code == 0
    assert json.loads(out)["certificate"]["margin"] == 0.02
    assert iirl_says(capsys, "verify", masked)[:1] == (0,)
    code, out, err = iirl_says(capsys, "verify", learned, "--certificate", file)
    assert code == 3
    assert "the certificate is refused" in err
    assert "another release" in err
    for broken in (file.read_bytes()[:-9], b"", b"\xff\xfe"):
        file.write_bytes(broken)
        code, _, err = iirl_says(capsys, "verify", masked, "--certificate", file)
        assert code == 3
        assert "not the JSON of a certificate" in err
        assert "Error(" not in err
    file.write_bytes(b"{}")
    assert "it was changed after" in iirl_says(capsys, "verify", masked, "--certificate", file)[2]


def test_the_command_says_that_it_wrote_no_certificate(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no"
    code, out, _ = iirl_says(capsys, "certify", learned, "--budget", "50", "--out", file)
    assert code == 1
    assert not file.exists()
    assert "flaw:" in out
    assert f"certificate:    none, as no region is proved; {file} was not written" in out


def test_the_command_makes_the_folder_or_says_so_before_it_searches(
    masked: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "of" / "many" / "c.json"
    assert iirl_says(capsys, "certify", masked, "--margin", "0.02", "--out", file)[0] == 0
    assert file.is_file()
    monkeypatch.setattr(Search, "run", lambda *_, **__: pytest.fail("it searches"))
    code, _, err = iirl_says(capsys, "certify", masked, "--out", file / "c.json")
    assert code == 2
    assert f"where: {file / 'c.json'}" in " ".join(err.split())
    assert "next:" in err
    assert "partial" not in err
    assert iirl_says(capsys, "certify", tmp_path / "no", "--out", tmp_path / "a" / "c")[0] == 3
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("there", "said"), [(False, "there is no such release"), (True, "the release is incomplete")]
)
def test_what_is_no_release_is_refused_as_other_commands_refuse_it(
    there: bool, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nothere"
    if there:
        folder.mkdir()
    code, _, certified = iirl_says(capsys, "certify", folder)
    assert code == 3
    assert said in certified
    assert iirl_says(capsys, "verify", folder) == (3, "", certified)


def test_the_command_takes_boxes_and_slices(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slices.json"
    asked = ("certify", learned, "--around-demonstrations", "3", "--radius", "0.05", "--out", file)
    assert iirl_says(capsys, *asked)[0] == 0
    assert iirl_says(capsys, *asked, "--slice", "y")[0] == 0
    code, out, _ = iirl_says(capsys, "verify", learned, "--certificate", file)
    assert code == 0
    assert "3 regions" in out
    assert iirl_says(capsys, *asked, "--slice", "z")[0] == 2
    assert iirl_says(capsys, *asked[:4])[0] == 2
    assert iirl_says(capsys, "certify", learned, "--radius", "1")[0] == 2


def test_the_checker_knows_no_prover() -> None:
    """It is imported by a process that could not import torch or the plugin."""
    code = (
        "import sys; sys.modules.update(torch=None, iirl_certify=None)\n"
        "import iirl_engine.certificate\n"
        "print(sorted(n for n in sys.modules if n.startswith('iirl')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(done.stdout)) <= {
        "iirl_certify",
        "iirl_engine",
        "iirl_engine.certificate",
    }


def test_the_checker_can_be_read_in_one_sitting() -> None:
    """Its one file has fewer than 200 lines, of at most 100 characters, with all that is said."""
    lines = Path(certificate.__file__).read_text().splitlines()
    assert len(lines) < 200
    assert max(map(len, lines)) <= 100


def claimed(folder: Path, *regions: Any, margin: Any = 0.0) -> bytes:
    """Return a certificate of a release that claims something, proved or not."""
    release = hashlib.sha256(files(folder)[0]).hexdigest()
    return sealed({"format": 2, "release": release, "margin": margin, "regions": regions})


def test_a_domain_with_axes_is_not_the_whole_domain(learned: Path, tmp_path: Path) -> None:
    """What the engine does not read of a domain must not shrink it to a point."""

    def flattened(manifest: Any, tensors: Any) -> None:
        manifest["domain"] |= {"axes": [[0.0, 0.0], [0.0, 0.0]]}

    folder = remade(learned, tmp_path / "flat", flattened)
    iirl.load_release(folder)
    with pytest.raises(Refused, match="not proved"):
        check(*files(folder), claimed(folder, {"tree": "0"}))


def test_columns_are_numbers_whatever_they_equal(learned: Path, tmp_path: Path) -> None:
    """In Python [false, true] equals [0, 1]; as an index it would pick one column."""

    def masked_columns(manifest: Any, tensors: Any) -> None:
        sides = {"low": [-9.0, -9.0], "high": [0.3, 9.0]}
        (norm,) = (norm for norm in manifest["norms"] if norm["id"] == "box")
        norm["options"] |= sides | {"features": ["x", "y"]}
        manifest["formula"]["norms"]["box"] |= sides | {"columns": [False, True]}

    folder = remade(learned, tmp_path / "columns", masked_columns)
    model = iirl.load_release(folder)
    state = model.demonstrations.states[-2:-1]
    assert model.flawed(state, 0.01).all()
    region = {"low": (state[0] - 1e-6).tolist(), "high": (state[0] + 1e-6).tolist(), "tree": "0"}
    with pytest.raises(Refused, match="not proved"):
        check(*files(folder), claimed(folder, region))


@pytest.mark.parametrize("floor", [-0.5, 10**400, math.nan], ids=["below", "huge", "nan"])
def test_a_floor_that_no_reward_can_keep_is_refused(
    masked: Path, tmp_path: Path, floor: float
) -> None:
    """The reward is cut at 0, so that suppression proves nothing below."""

    def sunk(manifest: Any, tensors: Any) -> None:
        manifest["floor"] = floor

    deep = with_correction(masked, tmp_path / "deep", spike(effect="suppress"))
    folder = remade(deep, tmp_path / "sunk", sunk)
    middle = spike().centers[0]
    region = {"low": (middle - 1e-4).tolist(), "high": (middle + 1e-4).tolist(), "tree": "0"}
    check(*files(deep), claimed(deep, region))
    with pytest.raises(Refused, match="what is not known"):
        check(*files(folder), claimed(folder, region))


def test_tensors_that_the_engine_rounds_are_not_trusted(learned: Path, tmp_path: Path) -> None:
    """It divides center by spread in their own precision: in halves, all of the reward moves."""

    def halves(manifest: Any, tensors: Any) -> None:
        middle = np.full(2, 1000.0)
        tensors["encoder.center"] = middle.astype(np.float16)
        tensors["encoder.spread"] = np.full(2, 0.3, np.float16)
        for name in ("decoder", "decoder_bias", "gate"):
            tensors[f"encoder.{name}"] = np.zeros_like(tensors[f"encoder.{name}"])
        tensors["mapping.cap"] = np.array([0.1])
        tensors["demonstrations.states"] = middle[None]
        tensors["norm.support.boundary"] = np.array([0.15])
        manifest["domain"] = {"low": [999.0] * 2, "high": [1001.0] * 2}

    folder = remade(learned, tmp_path / "halves", halves)
    model = iirl.load_release(folder)
    place = np.full(2, 1000 - 0.237)
    assert model(place[None]) > 0.5
    assert model.violations(torch.tensor(place[None]))["support"] > 0.1
    region = {"low": (place - 1e-3).tolist(), "high": (place + 1e-3).tolist(), "tree": "0"}
    with pytest.raises(Refused):
        check(*files(folder), claimed(folder, region))


@pytest.mark.parametrize(
    "region",
    [
        {"tree": {"0": 1}},
        {"tree": ["0"]},
        {"tree": "/"},
        {"tree": "1/0"},
        {"tree": ""},
        {"tree": "1" * 5000},
        {"tree": "0", "radius": 9.0},
        {"low": [[0.1, 0.2], [0.3, 0.4]], "high": [[0.1, 0.2], [0.3, 0.4]], "tree": "0"},
        {},
    ],
)
def test_a_region_of_another_form_is_refused(masked: Path, region: Any) -> None:
    with pytest.raises(Refused):
        check(*files(masked), claimed(masked, region))


def test_a_margin_that_no_float_holds_is_refused(masked: Path) -> None:
    with pytest.raises(Refused, match="what is not known"):
        check(*files(masked), claimed(masked, {"tree": "0"}, margin=10**400))


def test_a_key_that_is_given_twice_is_refused(masked: Path) -> None:
    rest = claimed(masked, {"tree": "0"})[77:].replace(b'"margin":', b'"margin":5.0,"margin":')
    twice = b'{"sha256":"%s",' % hashlib.sha256(rest).hexdigest().encode() + rest
    with pytest.raises(Refused):
        check(*files(masked), twice)


def test_a_region_with_many_axes_takes_no_more_memory_than_its_file(masked: Path) -> None:
    count = 3000
    sides = {"low": [0.0] * count, "high": [1e-9] * count, "axes": [[0.0, 0.0]] * count}
    said = files(masked), claimed(masked, sides | {"tree": "0"})
    tracemalloc.start()
    check(*said[0], said[1])
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
