"""Every hook at work in a real, short run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from iirl_engine.records import Outcome
from iirl_engine.testing import Check, conformance, run_chain
from iirl_hooks_example.policy import objection

CHAIN = """
[flywheel]
rounds = 2

[source]
use = "figure1"

[encoder]
use = "knn"

[mapping]
use = "linear"

[[norm]]
use = "support"
boundary = 0.34

[[audit]]
use = "sobol"
budget = 256

[[refine]]
use = "envelope"
"""


def run(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    approved: str | None = None,
    notify: str = "events.jsonl",
) -> Outcome:
    """Run the chain with every hook's file in a folder, and this list of approved data."""
    folder.mkdir(exist_ok=True)
    if approved is not None:
        (folder / "approved.txt").write_text(approved)
    patch.setenv("IIRL_NOTIFY", str(folder / notify))
    patch.setenv("IIRL_METRICS", str(folder / "rounds.csv"))
    patch.setenv("IIRL_APPROVED_DATA", str(folder / "approved.txt"))
    return run_chain(CHAIN, folder)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A run without a list of approved data."""
    folder = tmp_path_factory.mktemp("refused")
    with pytest.MonkeyPatch.context() as patch:
        return run(folder, patch), folder


@pytest.fixture(scope="module")
def fingerprint(refused: tuple[Outcome, Path]) -> str:
    """The fingerprint of the chain's data, as the notifier tells it."""
    return str(events(refused[1])[0]["data"])


@pytest.fixture(scope="module")
def released(fingerprint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A run on approved data."""
    folder = tmp_path_factory.mktemp("released")
    approved = f"# approved in review\n\n{fingerprint}  # the toy world\n"
    with pytest.MonkeyPatch.context() as patch:
        return run(folder, patch, approved=approved), folder


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_the_notifier_tells_what_happened_in_order(released: tuple[Outcome, Path]) -> None:
    outcome, folder = released
    told = events(folder)
    assert [event["event"] for event in told] == [
        "run started",
        "release made",
        "flaws found",
        "release made",
    ]
    assert {event["run"] for event in told} == {str(folder / "run")}
    assert told[2]["count"] == outcome.rounds[0].confirmed > 0
    assert told[2]["norms"] == ["support"]
    assert told[3]["release"] == str(outcome.release)


def test_metrics_hold_a_row_per_round(released: tuple[Outcome, Path]) -> None:
    outcome, folder = released
    with (folder / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [1, 2]
    assert [int(row["open"]) for row in rows] == [turn.open for turn in outcome.rounds]
    assert [row["release"] for row in rows] == ["1", ""]


def test_approved_data_is_released(released: tuple[Outcome, Path]) -> None:
    outcome, _ = released
    assert outcome.ok
    assert outcome.release.name == "0001"


def test_without_a_list_every_release_is_vetoed(refused: tuple[Outcome, Path]) -> None:
    outcome, folder = refused
    assert not outcome.ok
    assert outcome.release.name == "0000"
    for turn in outcome.rounds:
        (veto,) = turn.vetoes
        assert veto == (
            "iirl-hooks-example: no data is approved: "
            f"{folder / 'approved.txt'} cannot be read (FileNotFoundError)"
        )


@pytest.mark.parametrize(
    ("approved", "reason"),
    [
        ("", "does not approve"),
        ("0" * 64, "does not approve"),
        ("# {data}", "does not approve"),
        ("{data}0", "does not approve"),
        (b"\xff\xfe", "cannot be read (UnicodeDecodeError)"),
    ],
)
def test_other_lists_veto_too(
    approved: str | bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "0123456789abcdef" * 4
    text = approved if isinstance(approved, bytes) else approved.format(data=data).encode()
    file = tmp_path / "approved.txt"
    file.write_bytes(text)
    monkeypatch.setenv("IIRL_APPROVED_DATA", str(file))
    assert reason in str(objection(data))
    file.write_text(data)
    assert objection(data) is None


def test_a_list_that_is_not_set_vetoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IIRL_APPROVED_DATA", raising=False)
    assert objection("0" * 64) == "no data is approved: IIRL_APPROVED_DATA is not set"


def test_a_notifier_that_fails_stops_no_run(
    fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path, monkeypatch, approved=fingerprint, notify="no-such-folder/events")
    assert outcome.ok
    assert outcome.release.name == "0001"


@conformance("iirl-hooks-example")
def test_the_plugin_conforms(check: Check) -> None:
    check()
