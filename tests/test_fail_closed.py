"""Careless and hostile strategies, data and releases: never an endorsement, never a traceback."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import Tensor

import iirl_engine as iirl
from iirl_engine import Fade, Kernels, View
from iirl_engine.api import Auditor, Context
from iirl_engine.audit import AuditJob
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import SupportOptions
from iirl_engine.chain import read_chain
from iirl_engine.corrections.restore import as_released
from iirl_engine.demonstrations import check
from iirl_engine.errors import ArtifactError, DataError, PluginError
from iirl_engine.evidence import Judgement
from iirl_engine.flywheel import Flywheel
from iirl_engine.judge import plain_judgement
from iirl_engine.records import Domain
from iirl_engine.target import Target

CHAIN = """
[flywheel]
rounds = 3
[source]
use = "figure1"
[encoder]
use = "knn"
k = 2
[mapping]
use = "linear"
cap = 1.0
[[norm]]
use = "support"
boundary = 0.34
[[audit]]
use = "sobol"
budget = 512
[[refine]]
use = "envelope"
[[report]]
use = "text"
"""


def test_a_row_whose_sum_overflows_changes_no_other(finished: Path) -> None:
    reward = iirl.load_release(finished / "out")
    states = reward.demonstrations.states[:3].copy()
    beside = np.concatenate([states, np.full((2, 3), 1e308), states])
    together = reward(beside)
    assert np.array_equal(together[:3], reward(states))
    assert np.array_equal(together[5:], reward(states))
    assert (together[3:5] == 0).all()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "c.toml").write_text(CHAIN)
    assert Flywheel.from_file(folder / "c.toml", out=folder / "out").run().ok
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture(scope="module")
def model(finished: Path) -> iirl.RewardModel:
    return iirl.load_release(finished / "out")


def forge(release: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change a release and make its hashes fit again."""
    manifest = json.loads((release / "manifest.json").read_text())
    tensors = {
        name: array.copy()
        for name, array in load((release / "tensors.safetensors").read_bytes()).items()
    }
    edit(manifest, tensors)
    (release / "tensors.safetensors").write_bytes(save(tensors))
    digest = hashlib.sha256((release / "tensors.safetensors").read_bytes()).hexdigest()
    manifest["files"]["tensors.safetensors"] = digest
    (release / "manifest.json").write_text(json.dumps(manifest))


def rename(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["corrections"][0]["id"] = "../../x"


def miscount(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["corrections"][0]["count"] = -7


def repeat(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["corrections"] *= 2


def forget(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["norms"] = []


def unlimit(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["domain"]["low"] = [float("nan")] * 3


def number(manifest: dict[str, Any], _: dict[str, Any]) -> None:
    manifest["features"] = [1, 2, 3]


def add(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["../../stranger"] = np.ones(3)


def narrow(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["encoder.spread"] = np.ones(2)


def integer(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["demonstrations.states"] = tensors["demonstrations.states"].astype(np.int8)


def nothing(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["norm.support.boundary"] = np.ones(0)


@pytest.mark.parametrize(
    "edit",
    [rename, miscount, repeat, forget, unlimit, number, add, narrow, integer, nothing],
)
def test_a_forged_release_that_cannot_be_what_it_says_is_refused(run: Path, edit: Any) -> None:
    forge(run / "out" / "releases" / "0001", edit)
    with pytest.raises(ArtifactError):
        iirl.load_release(run / "out" / "releases" / "0001")


def test_a_key_given_twice_and_a_deep_channel_are_refused(run: Path) -> None:
    release = run / "out" / "releases" / "0001"
    text = (release / "manifest.json").read_text()
    (release / "manifest.json").write_text(text.rstrip()[:-1] + ',"corrections":[]}')
    with pytest.raises(ArtifactError, match="cannot be read"):
        iirl.load_release(release)
    (run / "out" / "channels" / "stable.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="channel"):
        iirl.load_release(run / "out")


def test_resume_and_report_refuse_a_release_that_the_run_did_not_make(run: Path) -> None:
    forge(run / "out" / "releases" / "0000", lambda m, t: m.update(origin="elsewhere"))
    flywheel = Flywheel.from_file(run / "c.toml", out=run / "out")
    for again in (lambda: flywheel.run(resume=True), flywheel.report):
        with pytest.raises(ArtifactError, match="not the one"):
            again()


class _Options:
    budget = 100


class Careless(Auditor[Any]):
    """Yields its buffer and fills it anew; then does what the test asks."""

    family = "adversarial"

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        buffer = torch.full((1, 3), 0.5, dtype=torch.float64)
        yield buffer
        buffer.zero_()
        last = self.options.last()
        if last is not None:
            yield last


def audit(model: iirl.RewardModel, last: Callable[[], Any]) -> Any:
    options = _Options()
    options.last = last  # type: ignore[attr-defined]
    return AuditJob(Careless(options), model, 0.01, Context("audit", "a", 0, 1)).run()


def test_what_an_auditor_yields_is_kept_as_it_was(model: iirl.RewardModel) -> None:
    result = audit(model, lambda: None)
    assert (result.status, result.states.tolist()) == ("findings", [[0.5] * 3])


def leave() -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(
    "last",
    [
        leave,
        lambda: torch.full((2, 3), torch.nan),
        lambda: torch.ones(2, 3) > 0,
        lambda: np.ones((2, 3)),
        lambda: torch.ones(2, 3, dtype=torch.complex64),
    ],
)
def test_an_auditor_that_exits_or_yields_no_states_has_crashed(
    model: iirl.RewardModel, last: Any
) -> None:
    assert audit(model, last).status == "crashed"


@pytest.mark.parametrize("ok", [float("nan"), "False", None, np.array([True, False]), 1])
def test_a_gate_that_gives_no_clear_answer_refuses(ok: Any) -> None:
    with pytest.raises(TypeError, match="neither True nor False"):
        plain_judgement("g", Judgement("g", ok, {}))


def test_numbers_of_a_gate_become_plain() -> None:
    said = plain_judgement(
        "g", Judgement("g", np.True_, {"a": np.float32(1), "b": torch.tensor(2)})
    )
    assert (said.ok, json.dumps(dict(said.numbers))) == (True, '{"a": 1.0, "b": 2.0}')
    assert not plain_judgement("g", Judgement("g", True, {"a": float("nan")})).ok


@attrs.frozen(eq=False, kw_only=True)
class Liar(Kernels):
    """Says in memory what no release of it would say."""

    def suppression(self, view: View) -> Tensor:
        return view.base


def test_gates_judge_a_correction_as_a_release_holds_it() -> None:
    given = np.zeros((1, 3))
    liar = Liar(id="k", refiner="r", round=1, centers=given, radii=np.ones(1), strengths=np.ones(1))
    assert type(as_released(liar)) is Kernels
    given[:] = 9
    assert (liar.centers == 0).all()
    assert not liar.centers.flags.writeable


@pytest.mark.parametrize("name", ["", "../x", "a.b", "a b", 5, None])
def test_the_id_of_a_correction_is_a_plain_word(name: Any) -> None:
    with pytest.raises(ValueError, match="id must be"):
        Fade(id=name, refiner="r", round=1, norm="support", start=-1.0, end=0.0)


def test_a_reward_model_cannot_be_changed_between_gate_and_release(model: Any) -> None:
    with pytest.raises(AttributeError):
        model.corrections = ()


@pytest.mark.parametrize("values", [torch.nan, torch.inf, "column", "scalar"])
def test_a_mapping_without_values_is_no_clean_reward(
    values: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iirl_encoders.mappings import Linear

    def broken(self: Linear, loss: Tensor) -> Tensor:
        if isinstance(values, str):
            return loss[:, None] if values == "column" else loss.sum()
        return torch.full_like(loss, values)

    monkeypatch.setattr(Linear, "map", broken)
    (tmp_path / "c.toml").write_text(CHAIN)
    with pytest.raises(PluginError, match="map the losses"):
        Flywheel.from_file(tmp_path / "c.toml", out=tmp_path / "out").run()
    assert not (tmp_path / "out" / "channels").exists()


def test_an_encoder_that_stores_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iirl_encoders.knn import Knn

    told = Knn.tensors
    monkeypatch.setattr(Knn, "tensors", lambda self: {n: t * 2 + 1 for n, t in told(self).items()})
    (tmp_path / "c.toml").write_text(CHAIN)
    with pytest.raises(PluginError, match="does not give back"):
        Flywheel.from_file(tmp_path / "c.toml", out=tmp_path / "out").run()


@pytest.mark.parametrize("low", [float("nan"), 1.0, 2.0, float("-inf")])
def test_a_domain_in_which_nothing_can_be_found_is_refused(low: float) -> None:
    with pytest.raises(DataError, match="domain"):
        check(np.zeros((2, 1)), domain=Domain((low,), (1.0,)))


def test_episodes_are_whole_numbers() -> None:
    with pytest.raises(DataError, match="whole"):
        check(np.zeros((2, 1)), episode=[1.0, 1.5])


def test_what_a_mask_hides_is_no_number(model: iirl.RewardModel) -> None:
    states = np.ma.array(model.demonstrations.states[:2], mask=[[True, False, False], [False] * 3])
    assert model(states)[0] == 0 < model(states)[1]
    assert [why.reward for why in model.explain(states)] == model(states).tolist()
    with pytest.raises(DataError, match="NaN"):
        check(states)


@pytest.mark.parametrize(
    "states", [[["1", "2", "3"]], [[1, 2, 3], [1]], torch.ones(1, 3) > 0, np.ones((1, 3), complex)]
)
def test_what_is_no_array_of_numbers_is_neither_scored_nor_explained(
    model: iirl.RewardModel, states: Any
) -> None:
    for ask in (model, model.explain):
        with pytest.raises(DataError):
            ask(states)


def test_explain_takes_every_tensor_that_is_scored(model: iirl.RewardModel) -> None:
    for states in (torch.ones(1, 3, requires_grad=True), torch.ones(1, 3, dtype=torch.bfloat16)):
        assert model.explain(states)[0].reward == float(model(states).detach()[0])


def test_states_that_are_all_recorded_twice_have_an_automatic_boundary() -> None:
    once = np.random.default_rng(0).normal(size=(20, 2))
    boundaries = []
    for states in (once, np.repeat(once, 3, axis=0)):
        norm = SupportNorm(SupportOptions())
        norm.fit(check(states), Context("norm", "support", 0, 0))
        boundaries.append(float(norm.tensors()["boundary"]))
    assert boundaries[0] == boundaries[1]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf" + CHAIN.replace("\n", "\r\n").encode())
    assert read_chain(tmp_path / "c.toml").settings.rounds == 3
