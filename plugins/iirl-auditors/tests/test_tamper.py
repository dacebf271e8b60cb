"""Tampering: a reward that is not what its run released is told, and a sound one is not blamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

import iirl_engine as iirl
from iirl_auditors.adversarial.options import TamperOptions
from iirl_auditors.adversarial.tamper import Tamper, backdated, left_away, rewritten, unexplained
from iirl_engine.audit import AuditJob, run_audit
from iirl_engine.cli import main
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.formula import formula_of
from iirl_engine.knowledge import Knowledge
from iirl_engine.records import Concern, Released
from iirl_engine.testing import run_chain

CHAIN = """
report = []
[flywheel]
rounds = 3
[source]
use = "figure1"
[encoder]
use = "moe-autoencoder"
steps = 300
[mapping]
use = "linear"
cap = 0.3
[[norm]]
use = "support"
boundary = 0.34
[[audit]]
use = "pgd"
budget = 2000
[[audit]]
use = "tamper"
[[refine]]
use = "kernel-lp"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_chain(CHAIN, tmp_path_factory.mktemp("tamper")).run


def newest(run: Path) -> tuple[iirl.RewardModel, tuple[Released, ...]]:
    knowledge = Knowledge(run)
    history, manifest = knowledge.history(), knowledge.releases()
    knowledge.close()
    number = max(manifest)
    assert number > 0, "the run made no release that corrects anything"
    return iirl.load_release(run / "releases" / f"{number:04d}"), history


def said(model: iirl.RewardModel, history: tuple[Released, ...]) -> dict[str, Concern]:
    context = iirl.Context("audit", "tamper", 0, 1)
    result = run_audit(AuditJob(Tamper(TamperOptions()), model, 0.01, context, history))
    assert result.status == "clean", result.reason
    assert result.queries == 1
    return {concern.kind: concern for concern in result.concerns}


def kernel(**changes: Any) -> Kernels:
    given = {
        "id": "r1-intruder",
        "refiner": "kernel-greedy",
        "round": 1,
        "centers": np.zeros((1, 3)),
        "radii": np.ones(1),
        "strengths": np.ones(1),
    }
    return Kernels(**given | changes)


def test_a_run_that_nobody_touched_is_not_blamed(finished: Path) -> None:
    knowledge = Knowledge(finished)
    rounds, concerns, history = knowledge.rounds(), knowledge.concerns(), knowledge.history()
    knowledge.close()
    assert len(rounds) > 1
    assert concerns == ()
    assert len(history) > 1
    assert said(*newest(finished)) == {}


def test_a_correction_that_nobody_released_is_found(finished: Path) -> None:
    model, history = newest(finished)
    concerns = said(model.with_corrections([kernel()]), history)
    assert set(concerns) == {"unreleased-correction"}
    assert concerns["unreleased-correction"].grave
    assert "correction.r1-intruder" in concerns["unreleased-correction"].text


def test_a_correction_that_is_changed_or_taken_away_is_found(finished: Path) -> None:
    model, history = newest(finished)
    first, *others = model.corrections
    weaker = attrs.evolve(first, strengths=0.5 * np.asarray(first.strengths))
    assert set(said(model.evolve(corrections=[weaker, *others]), history)) == {"changed-correction"}
    assert set(said(model.evolve(corrections=others), history)) == {"lost-correction"}


def test_changed_weights_norms_and_domains_are_found(finished: Path) -> None:
    model, history = newest(finished)
    tensors = {name: tensor.clone() for name, tensor in model.encoder.tensors().items()}
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] += 1e-9
    model.encoder.restore(tensors, model.demonstrations)
    assert "encoder" in said(model, history)["changed-weights"].text
    model, history = newest(finished)
    wider = attrs.evolve(model.domain, high=(2.0,) * 3)
    assert "domain" in said(model.evolve(domain=wider), history)["changed-weights"].text


def test_what_audits_leave_behind_is_no_tampering(finished: Path) -> None:
    model, history = newest(finished)
    assert said(model.evolve(probes=np.zeros((5, 3))), history) == {}


def test_a_release_forged_with_a_manifest_that_fits_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    number = max(path.name for path in (run / "releases").iterdir())
    forged = run / "releases" / number
    tensors = load_file(forged / "tensors.safetensors")
    name = next(n for n in tensors if n.startswith("correction.") and n.endswith("strengths"))
    tensors[name] = 0.01 * tensors[name]
    (forged / "tensors.safetensors").write_bytes(save(tensors))
    manifest = json.loads((forged / "manifest.json").read_text())
    digest = hashlib.sha256((forged / "tensors.safetensors").read_bytes()).hexdigest()
    manifest["files"]["tensors.safetensors"] = digest
    (forged / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    iirl.load_release(forged)  # every hash in it fits
    with pytest.raises(SystemExit) as exit_:
        main(["audit", str(forged), "--set", "audit.pgd.budget=1", "--json"])
    assert exit_.value.code == 3
    (concern,) = json.loads(capsys.readouterr().out)["concerns"]
    assert (concern["kind"], concern["grave"]) == ("changed-correction", True)


def test_without_a_record_it_says_so(finished: Path) -> None:
    model, _ = newest(finished)
    (concern,) = said(model, ()).values()
    assert concern.kind == "no-record"
    assert not concern.grave


def test_a_release_that_does_more_than_add_corrections_is_told() -> None:
    first = Released(0, 0, {"encoder": "a", "correction.x": "1"})
    more = Released(1, 2, {"encoder": "a", "correction.x": "1", "correction.y": "2"})
    less = Released(2, 3, {"encoder": "a", "correction.y": "2"})
    other = Released(2, 3, {"encoder": "b", "correction.x": "1", "correction.y": "2"})
    assert list(rewritten([first, more])) == []
    changed = Released(2, 3, {"encoder": "a", "correction.x": "9", "correction.y": "2"})
    for last in (changed, other):
        ((kind, text),) = rewritten([first, more, last])
        assert kind == "rewritten-history"
        assert text.endswith("not so 0002.")
        assert left_away([first, more, last]) == []
    # Others may stand in for a correction: that is told, and rewrites nothing.
    assert list(rewritten([first, more, less])) == []
    assert left_away([first, more, less]) == ["x"]


def test_a_correction_that_claims_another_round_is_told() -> None:
    history = [Released(0, 0, {}), Released(1, 2, {"correction.x": "1"})]
    assert list(backdated([kernel(id="x", round=2), kernel(id="y", round=7)], history)) == []
    ((kind, text),) = backdated([kernel(id="x", round=1)], history)
    assert kind == "backdated-correction"
    assert "x (says 1)" in text


def test_the_same_parts_are_explained() -> None:
    parts = {"encoder": "a", "correction.x": "1"}
    assert list(unexplained(parts, dict(parts))) == []
    kinds = [kind for kind, _ in unexplained(parts, {})]
    assert kinds == ["changed-weights", "unreleased-correction"]


def test_fingerprints_differ_where_tensors_differ_and_nowhere_else(finished: Path) -> None:
    model, history = newest(finished)
    before = formula_of(model).fingerprints()
    assert before == dict(history[-1].fingerprints)
    moved = attrs.evolve(model.demonstrations, held_out=torch.zeros(1, 3).double().numpy())
    after = formula_of(model.evolve(demonstrations=moved)).fingerprints()
    assert {n for n in before if before[n] != after[n]} == {"demonstrations"}
