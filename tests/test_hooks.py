"""Lifecycle hooks: when they are called, with what, and what they can and cannot change."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.distributions import Done, Environment, write_chain, write_installed

START = "from iirl_engine import hookimpl\n\nIIRL_API = 1\n"
# Writes what it is told, and what came of the attempt to change it, one JSON object per hook.
WATCH = (
    START
    + """

def tell(hook, **seen):
    import json
    import os

    with open(os.environ["ACME_WATCH_LOG"], "a") as file:
        file.write(json.dumps({"hook": hook, **seen}) + "\\n")


def attempt(record, name):
    try:
        setattr(record, name, None)
    except AttributeError as error:
        return type(error).__name__
    return "changed"


def writeable(*arrays):
    return [bool(array.flags.writeable) for array in arrays]


def flaw_arrays(flaws):
    return (flaws.states, flaws.rewards, flaws.violations)


@hookimpl
def iirl_run_started(event):
    tell("run_started", run=str(event.run), chain=event.chain, plugins=event.plugins,
         data=event.data, change=attempt(event, "run"))


@hookimpl
def iirl_flaws_found(event):
    tell("flaws_found", run=str(event.run), round=event.round, count=len(event.flaws),
         shapes=[list(a.shape) for a in flaw_arrays(event.flaws)],
         writeable=writeable(*flaw_arrays(event.flaws)),
         change=[attempt(event, "flaws"), attempt(event.flaws, "states")])


@hookimpl
def iirl_round_finished(event):
    tell("round_finished", run=str(event.run), round=event.round.number, open=event.round.open,
         release=event.round.release, exists=(event.run / "releases").exists(),
         change=[attempt(event, "round"), attempt(event.round, "open"),
                 attempt(event.round.audits[0], "found")])


@hookimpl
def iirl_release_made(event):
    import hashlib

    digest = hashlib.sha256((event.release / "manifest.json").read_bytes()).hexdigest()
    tell("release_made", run=str(event.run), release=str(event.release),
         matches=digest == event.manifest, change=attempt(event, "manifest"))


@hookimpl
def iirl_veto(candidate, evidence):
    tell("veto", round=candidate.round, corrections=len(candidate.corrections),
         open=int(evidence.was_open.sum()), floor=evidence.floor, data=evidence.data,
         writeable=writeable(evidence.was_open, evidence.known_good, evidence.original,
                             *flaw_arrays(evidence.flaws)),
         change=[attempt(candidate, "model"), attempt(evidence, "floor")])
    return None
"""
)
RAISE = START + "".join(
    f"\n\n@hookimpl\ndef iirl_{hook}(event):\n    {what}\n"
    for hook, what in (
        ("run_started", "raise ValueError('cannot start')"),
        ("flaws_found", "import sys; sys.exit(3)"),
        ("round_finished", "event.round = None"),
        ("release_made", "open('/no/such/file')"),
    )
)
VETOES = {
    "acme-words": "return 'the data is not approved'",
    "acme-raises": "raise ValueError('no answer')",
    "acme-exits": "raise SystemExit(0)",
    "acme-number": "return 0",
    "acme-false": "return False",
    "acme-silent": "return None",
}


@attrs.frozen(slots=False)
class Run:
    """A finished run: what was said, and its directory."""

    done: Done
    folder: Path
    environment: Environment

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return self.done.json()["rounds"]

    @functools.cached_property
    def status(self) -> dict[str, Any]:
        return self.environment.iirl("status", self.folder, "--json").json()

    def tensors(self) -> dict[str, str]:
        """Return release -> hash of its tensors."""
        return {
            file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(self.folder.glob("releases/*/tensors.safetensors"))
        }


def run_with(folder: Path, hooks: dict[str, str], **variables: str) -> Run:
    """Run one and the same chain with these plugins installed besides."""
    for dist, text in hooks.items():
        write_installed(folder / "site", dist, files={"hooks.py": text})
    environment = Environment(path=(folder / "site",), variables=variables)
    chain = write_chain(folder / "c.toml", "sobol", rounds=3)
    done = environment.iirl("run", chain, "--out", folder / "out", "--json")
    return Run(done, folder / "out", environment)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_with(tmp_path_factory.mktemp("plain"), {})


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("watched")
    return run_with(folder, {"acme-watch": WATCH}, ACME_WATCH_LOG=str(folder / "log"))


@pytest.fixture(scope="module")
def told(watched: Run) -> list[dict[str, Any]]:
    assert watched.done.code == 0, watched.done.stderr
    lines = (watched.folder.parent / "log").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_with(tmp_path_factory.mktemp("disturbed"), {"acme-clumsy": RAISE})


@pytest.fixture(scope="module")
def vetoed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    hooks = {
        dist: START + f"\n\n@hookimpl\ndef iirl_veto(candidate, evidence):\n    {what}\n"
        for dist, what in VETOES.items()
    }
    return run_with(tmp_path_factory.mktemp("vetoed"), hooks)


def of(told: list[dict[str, Any]], hook: str) -> list[dict[str, Any]]:
    return [event for event in told if event["hook"] == hook]


def test_hooks_are_called_in_order(told: list[dict[str, Any]]) -> None:
    assert [event["hook"] for event in told] == [
        "run_started",
        "release_made",
        "flaws_found",
        "veto",
        "release_made",
        "round_finished",
        "round_finished",
    ]


def test_run_started_tells_of_the_run(told: list[dict[str, Any]], watched: Run) -> None:
    (event,) = of(told, "run_started")
    assert event["run"] == str(watched.folder)
    assert event["chain"] == (watched.folder / "chain.toml").read_text()
    plugins = [{"dist": dist, "version": version} for dist, version in event["plugins"]]
    assert plugins == watched.done.json()["plugins"]
    assert len(event["data"]) == 64


def test_flaws_found_tells_the_new_flaws(told: list[dict[str, Any]], watched: Run) -> None:
    (event,) = of(told, "flaws_found")
    count = watched.rounds[0]["confirmed"]
    assert (event["run"], event["round"]) == (str(watched.folder), 1)
    assert event["count"] == count > 0
    assert event["shapes"] == [[count, 3], [count], [count]]


def test_round_finished_tells_the_round_as_reported(
    told: list[dict[str, Any]], watched: Run
) -> None:
    events = of(told, "round_finished")
    seen = [(event["round"], event["open"], event["release"]) for event in events]
    assert seen == [(r["number"], r["open"], r["release"]) for r in watched.rounds]
    assert all(event["exists"] for event in events)


def test_release_made_comes_when_the_release_is_on_disk(
    told: list[dict[str, Any]], watched: Run
) -> None:
    events = of(told, "release_made")
    assert [event["release"] for event in events] == [
        str(watched.folder / "releases" / number) for number in ("0000", "0001")
    ]
    assert all(event["matches"] for event in events)


def test_veto_sees_the_candidate_and_the_evidence(told: list[dict[str, Any]], watched: Run) -> None:
    (event,) = of(told, "veto")
    assert (event["round"], event["corrections"], event["floor"]) == (1, 1, 0.01)
    assert event["open"] == watched.rounds[0]["closed"] > 0
    assert event["data"] == of(told, "run_started")[0]["data"]


def test_events_are_frozen(told: list[dict[str, Any]]) -> None:
    for event in told:
        changes = event["change"]
        for change in [changes] if isinstance(changes, str) else changes:
            assert change == "FrozenInstanceError", event["hook"]


def test_arrays_of_flaws_found_are_read_only(told: list[dict[str, Any]]) -> None:
    assert of(told, "flaws_found")[0]["writeable"] == [False] * 3


def test_arrays_of_a_veto_s_evidence_are_read_only(told: list[dict[str, Any]]) -> None:
    assert of(told, "veto")[0]["writeable"] == [False] * 6


def test_observer_changes_nothing(watched: Run, plain: Run) -> None:
    assert plain.done.code == watched.done.code == 0
    assert watched.tensors() == plain.tensors()
    assert list(plain.tensors()) == ["0000", "0001"]


def test_observer_that_raises_changes_nothing(disturbed: Run, plain: Run) -> None:
    assert disturbed.done.code == 0, disturbed.done.stderr
    assert disturbed.tensors() == plain.tensors()
    unlike = {"seconds", "audits"}
    assert [{k: v for k, v in r.items() if k not in unlike} for r in disturbed.rounds] == [
        {k: v for k, v in r.items() if k not in unlike} for r in plain.rounds
    ]


def test_observer_that_raises_is_logged(disturbed: Run) -> None:
    release = "iirl_release_made of acme-clumsy raised FileNotFoundError: [Errno 2] No such file"
    finished = "iirl_round_finished of acme-clumsy raised FrozenInstanceError"
    expected = [
        (0, "iirl_run_started of acme-clumsy raised ValueError: cannot start"),
        (0, release),
        (1, "iirl_flaws_found of acme-clumsy raised RuntimeError: sys.exit(3) was called"),
        (1, release),
        (1, finished),
        (2, finished),
    ]
    events = disturbed.status["events"]
    assert len(events) == len(expected)
    for event, (number, text) in zip(events, expected, strict=True):
        assert event["text"].startswith(text)
        assert event["round"] == number
    assert "Traceback" not in disturbed.done.stderr


def test_veto_stops_the_release(vetoed: Run, plain: Run) -> None:
    assert vetoed.done.code == 1, vetoed.done.stderr
    assert vetoed.tensors() == {"0000": plain.tensors()["0000"]}
    assert vetoed.status["stable"] is None
    assert vetoed.rounds[0]["open"] == vetoed.rounds[0]["confirmed"] > 0
    assert all(round_["release"] is None for round_ in vetoed.rounds)


def test_every_veto_is_reported_with_its_reason(vetoed: Run) -> None:
    assert sorted(vetoed.rounds[0]["vetoes"]) == [
        "acme-exits: raised RuntimeError: sys.exit(0) was called",
        "acme-false: answered False, no text",
        "acme-number: answered 0, no text",
        "acme-raises: raised ValueError: no answer",
        "acme-words: the data is not approved",
    ]


def test_veto_is_logged(vetoed: Run) -> None:
    texts = [event["text"] for event in vetoed.status["events"]]
    for veto in vetoed.rounds[0]["vetoes"]:
        assert f"vetoed by {veto}" in texts


def test_first_and_last_are_asked_first_and_last(tmp_path: Path) -> None:
    for dist, mark in (("acme-a", "trylast=True"), ("acme-b", ""), ("acme-c", "tryfirst=True")):
        text = START + f"\n\n@hookimpl({mark})\ndef iirl_run_started(event):\n    pass\n"
        write_installed(tmp_path, dist, files={"hooks.py": text})
    code = (
        "from iirl_engine.plugins import Plugins; "
        "print(*[dist for dist, _ in Plugins().implementations('iirl_run_started')])"
    )
    done = Environment(path=(tmp_path,)).execute("-c", code)
    assert done.said == "acme-c acme-b acme-a"
