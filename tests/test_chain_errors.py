"""What `iirl run` says of a chain file with mistakes: golden texts, and a fuzzer.

Each `golden/chain_errors/NAME.toml` is a chain file with one kind of mistake and `NAME.txt` what
`iirl run NAME.toml` then prints on stderr. After a change of the messages, write the texts anew
with `UPDATE_GOLDEN=1 pytest tests/test_chain_errors.py` and read every one that changed.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from iirl_engine.chain import Chain, check_chain, read_chain
from iirl_engine.chain_file import REQUIRED
from iirl_engine.cli import main
from iirl_engine.errors import ChainError, UsageError
from iirl_engine.plugins import FIRST_PARTY, Plugins
from iirl_engine.registry import Registry
from iirl_engine.schema import chain_schema

GOLDEN = Path(__file__).parent / "golden" / "chain_errors"
CASES = sorted(GOLDEN.glob("*.toml"))
REGISTRY = Registry(Plugins())
SCHEMA = Draft202012Validator(chain_schema(REGISTRY))

only_first_party = pytest.mark.skipif(
    tuple(p.dist for p in REGISTRY.plugins.loaded) != FIRST_PARTY,
    reason="the texts list the strategies of the first-party plugins",
)


@only_first_party
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_mistakes_are_told_as_the_golden_text_says(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    before = sorted(GOLDEN.iterdir())
    with pytest.raises(SystemExit) as exit_:
        main(["run", case.name])
    told = capsys.readouterr()
    assert exit_.value.code == 2
    assert told.out == ""
    golden = case.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(told.err, encoding="utf-8")
        return
    assert told.err == golden.read_text(encoding="utf-8")
    assert sorted(GOLDEN.iterdir()) == before, "a run folder was left behind"


def test_golden_texts_fit_a_terminal_and_hold_no_control_characters() -> None:
    assert len(CASES) >= 18
    for case in CASES:
        for line in case.with_suffix(".txt").read_text(encoding="utf-8").splitlines():
            assert len(line) <= 100, (case.name, line)
            assert line.isprintable(), (case.name, line)


@only_first_party
def test_the_installed_command_says_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    case = GOLDEN / "all_at_once.toml"
    chain = tmp_path / case.name
    chain.write_bytes(case.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "iirl_engine", "run", case.name, "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == case.with_suffix(".txt").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [chain]


VALID: dict[str, Any] = {
    "flywheel": {"rounds": 3, "floor": 0.01, "disable": ["acme"], "require": ["iirl-engine>=0"]},
    "domain": {"low": [-1.0, -1.0, 0.0], "high": [1.0, 1.0, 2.0]},
    "source": {"use": "figure1"},
    "encoder": {"use": "moe-autoencoder", "bottleneck": 2, "standardize": "auto"},
    "mapping": {"use": "exp", "l_min": 0.1, "l_max": 0.5},
    "norm": [
        {"use": "support", "boundary": 0.34},
        {"use": "box", "id": "wall", "features": ["x0"], "low": [0.0], "high": [1.0]},
        {"use": "linear", "a": [1.0, 0.0, 0.0], "b": 1.0},
    ],
    "audit": [{"use": "sobol"}, {"use": "pgd", "id": "tight", "step_size": 0.1}],
    "triage": {"use": "severity"},
    "refine": [{"use": "envelope", "inner": 0.1, "outer": 0.2}, {"use": "norm-mask"}],
    "gate": [{"use": "known-good"}],
    "report": [{"use": "html", "features": ["x0", "x1"]}],
}


@pytest.fixture(scope="module")
def valid_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("valid") / "chain.toml"
    file.write_text(tomli_w.dumps(VALID))
    return file


KEYS = st.sampled_from(
    ["use", "id", "path", "weights", "low", "require", "disable", "steps", "norm", "audit", "gate"]
)
ATOMS = (
    st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 10**400])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["pgd", "auto", "iirl-auditors:pgd", "acme:pgd", "\0", "a" * 5000, ":", "/"])
    | st.dates()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)


def mutate(data: st.DataObject, table: dict[str, Any]) -> None:
    """Drop, replace or add one value at a random place."""
    at: Any = table
    while True:
        places = list(at) if isinstance(at, dict) else list(range(len(at)))
        place = data.draw(st.sampled_from(places)) if places else None
        if place is None or not (isinstance(at[place], dict | list) and data.draw(st.booleans())):
            break
        at = at[place]
    action = data.draw(st.sampled_from(["drop", "replace", "add"]))
    if action == "add" or place is None:
        if isinstance(at, dict):
            at[data.draw(KEYS | st.text(max_size=8))] = data.draw(VALUES)
        else:
            at.append(data.draw(VALUES))
    elif action == "drop":
        del at[place]
    else:
        at[place] = data.draw(VALUES)


def check_told(error: ChainError) -> None:
    """A chain error has problems, each of one path and message, and no control characters."""
    assert error.problems
    assert all(problem.path and problem.message for problem in error.problems)
    assert all(line.isprintable() for line in str(error).splitlines())


def check_told_override(error: UsageError, overrides: list[str]) -> None:
    assert error.got in overrides


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_chain_is_accepted_or_refused_with_problems(data: st.DataObject) -> None:
    table = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(data, table)
    try:
        chain = check_chain(table, REGISTRY, Path("chain.toml"))
    except ChainError as error:
        check_told(error)
    else:
        assert SCHEMA.is_valid(table), "the schema refuses what the checker accepts"
        again = check_chain(tomllib.loads(chain.dump()), REGISTRY, Path("chain.toml"))
        assert (again.steps, again.domain) == (chain.steps, chain.domain)
        assert set(again.settings.require) >= set(chain.settings.require)


def test_the_chain_that_is_mutated_is_valid() -> None:
    assert len(check_chain(VALID, REGISTRY, Path("chain.toml")).norms) == 3


OVERRIDE_KEYS = st.sampled_from(
    [*VALID, "executor", "tight", "pgd", "support", "known-good", "html", "rounds", "steps", "use"]
) | st.text(max_size=6)
OVERRIDE_VALUES = (
    st.sampled_from(["3", "0.5", "inf", "[]", "{}", "[{}]", '"pgd"', "pgd", "true", "", "[" * 2000])
    | st.just("9" * 5000)
    | st.text(max_size=12)
)


@given(
    overrides=st.lists(
        st.builds(
            lambda keys, equals, value: ".".join(keys) + equals + value,
            st.lists(OVERRIDE_KEYS, min_size=1, max_size=4),
            st.sampled_from(["=", "=", "=", ""]),
            OVERRIDE_VALUES,
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_override_is_carried_out_or_refused(valid_file: Path, overrides: list[str]) -> None:
    try:
        chain = read_chain(valid_file, overrides=overrides)
    except UsageError as error:
        check_told_override(error, overrides)
    except ChainError as error:
        check_told(error)
    else:
        assert isinstance(chain, Chain)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("rounds", "an override is written table.option=value"),
        (".rounds=3", "an override is written table.option=value"),
        ("audit=3", "expected an array of tables, got int 3"),
        ("audit.pgd=3", "an override must name an option"),
        ("audit.pgf.steps=3", "no audit has the id 'pgf'"),
        ("flywheel.rounds.most=3", "flywheel.rounds is no table"),
        ("flywheel.rounds=three", "expected int, got string 'three'"),
        ("flywheel.seed=0x" + "f" * 5000, "expected an int of 64 bits, got int of enormous size"),
        ("flywheel.round=3", "did you mean 'rounds'?"),
        ("audti.pgd.steps=3", "did you mean 'audit'?"),
    ],
)
def test_an_override_that_cannot_be_carried_out_says_why(
    valid_file: Path, override: str, told: str
) -> None:
    with pytest.raises((UsageError, ChainError)) as error:
        read_chain(valid_file, overrides=[override])
    assert told in str(error.value)


def test_an_override_reaches_tables_by_id_and_those_that_a_chain_gets_by_default(
    tmp_path: Path,
) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(tomli_w.dumps({name: VALID[name] for name in REQUIRED}))
    chain = read_chain(
        file,
        overrides=[
            "audit.tight.steps=7",
            "gate.known-good.max_loss=0.2",
            "encoder.standardize=true",
            "source.use=iirl-engine:figure1",
            "refine=[{use='envelope'}]",
        ],
    )
    assert chain.audits[1].options.steps == 7
    assert [(s.id, getattr(s.options, "max_loss", None)) for s in chain.gates] == [
        ("known-good", 0.2),
        ("closure", None),
    ]
    assert chain.encoder.options.standardize is True
    assert [step.id for step in chain.refines] == ["envelope"]
    assert read_chain(file).gates[0].options.max_loss == 0.1


def test_an_int_is_taken_for_a_float_and_nothing_else_is_converted(valid_file: Path) -> None:
    steepness = read_chain(valid_file, overrides=["mapping.steepness=2"]).mapping.options.steepness
    assert (type(steepness), steepness) == (float, 2.0)


def test_a_relative_path_starts_at_the_folder_of_the_chain_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demos.csv").write_text("x\n1\n")
    file = tmp_path / "chain.toml"
    table = VALID | {"source": {"use": "csv", "path": "demos.csv"}}
    file.write_text(tomli_w.dumps(table))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_chain(file).source.options.path == str(tmp_path / "demos.csv")
    assert read_chain(Path("..") / file.name).source.options.path == str(tmp_path / "demos.csv")


def test_a_path_that_ends_in_a_slash_names_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    gates = [{"use": "ordering", "path": "policies/"}]
    file.write_text(tomli_w.dumps(VALID | {"gate": gates}))
    with pytest.raises(ChainError, match="there is no such file"):
        read_chain(file)
    (tmp_path / "policies").mkdir()
    assert read_chain(file).gates[0].options.path == str(tmp_path / "policies")


def test_no_error_hands_control_characters_to_a_terminal() -> None:
    told = "\x1b[2J\x07\nend\u202e"
    error = UsageError(told, where=told, got=told, known=[told], next_step=told)
    lines = str(error).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 5
    assert lines[0] == r"\x1b[2J\x07 end\u202e"
