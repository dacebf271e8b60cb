"""Options of every installed strategy: one definition, checked, dumped and described alike."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from iirl_engine import option
from iirl_engine.chain import read_chain
from iirl_engine.chain_file import Settings
from iirl_engine.cli import main
from iirl_engine.errors import Problem
from iirl_engine.hookspecs import KINDS
from iirl_engine.options import build_options, dump_options, options_schema
from iirl_engine.plugins import FIRST_PARTY, Plugins
from iirl_engine.registry import Registry
from iirl_engine.schema import chain_schema
from iirl_engine.testing.strategies import option_tables

HERE = Path(__file__).parent
RECIPES = sorted((HERE.parent / "contrib" / "recipes").glob("*.toml"))
GOLDEN = sorted((HERE / "golden" / "chain_errors").glob("*.toml"))
# What no schema can say: relations between values, the state of this machine, NaN.
UNSEEN = {
    "box_lengths",
    "box_order",
    "disabled_plugin",
    "domain_lengths",
    "domain_order",
    "members",
    "missing_path",
    "not_finite",
    "require",
}
NO_TABLES = {"not_toml", "not_utf8"}

REGISTRY = Registry(Plugins())
CLASSES: dict[str, type[Any]] = {"flywheel": Settings} | {
    f"{kind}-{entry.qualified}": entry.offer.options
    for kind in KINDS
    for entry in REGISTRY.entries(kind)
    if entry.dist in FIRST_PARTY
}
each_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)


def build(cls: type[Any], table: dict[str, Any]) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    return build_options(cls, table, "step", problems, None), problems


@each_class
def test_defaults_build_and_every_option_is_documented(cls: type[Any]) -> None:
    built, problems = build(cls, {})
    required = [f.name for f in attrs.fields(cls) if f.default is attrs.NOTHING]
    assert [problem.path for problem in problems] == [f"step.{name}" for name in required]
    assert (built is None) == bool(required)
    assert all(field.metadata["help"] for field in attrs.fields(cls))


@each_class
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_options_survive_toml_and_fit_their_schema(cls: type[Any], data: st.DataObject) -> None:
    table = data.draw(option_tables(cls))
    built, problems = build(cls, tomllib.loads(tomli_w.dumps(table)))
    assert Draft202012Validator(options_schema(cls)).is_valid(table)
    if built is None:
        assert {problem.path for problem in problems} == {"step"}, "only values in relation"
        return
    for name, value in table.items():
        kept = getattr(built, name)
        assert (list(kept) if isinstance(kept, tuple) else kept) == value
    again, _ = build(cls, tomllib.loads(tomli_w.dumps(dump_options(built))))
    assert again == built
    assert attrs.astuple(again) == attrs.astuple(built)


WRONG = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 2)
    # A whole float is an integer to a schema and none to TOML.
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | st.sampled_from(["auto", "medium", "", "3", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@each_class
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_schema_and_checker_agree_on_any_table(cls: type[Any], data: st.DataObject) -> None:
    table = data.draw(option_tables(cls))
    names = [*attrs.fields_dict(cls), "stranger"]
    table |= data.draw(st.dictionaries(st.sampled_from(names), WRONG, max_size=2))
    for name in data.draw(st.sets(st.sampled_from(names), max_size=1)):
        table.pop(name, None)
    _, problems = build(cls, table)
    refused = any(problem.path != "step" for problem in problems)
    assert Draft202012Validator(options_schema(cls)).is_valid(table) != refused


@attrs.frozen(kw_only=True)
class Example:
    """One option of each type."""

    flag: bool = option(False, help="a bool")
    count: int = option(1, ge=0, lt=10, help="an int")
    share: float = option(0.5, gt=0.0, le=1.0, help="a float")
    name: str = option("x", help="a text")
    size: float | Literal["auto"] = option("auto", gt=0.0, help="a float or auto")
    mode: Literal["fast", "exact"] = option("fast", help="a choice")
    low: tuple[float, ...] = option((), le=1.0, help="floats")
    names: tuple[str, ...] | None = option(None, help="texts or nothing")

    def __attrs_post_init__(self) -> None:
        if self.name == "lookup":
            raise KeyError(self.name)


@pytest.mark.parametrize(
    ("table", "path", "told"),
    [
        ({"flag": 1}, "flag", "expected bool, got int 1"),
        ({"flag": "true"}, "flag", "expected bool, got string 'true'"),
        ({"count": True}, "count", "expected int, got bool true"),
        ({"count": 1.0}, "count", "expected int, got float 1.0"),
        ({"count": "1"}, "count", "expected int, got string '1'"),
        ({"count": 10}, "count", "must be >= 0 and < 10, got 10"),
        ({"count": 2**63}, "count", "expected an int of 64 bits, got int 9223372036854775808"),
        ({"share": True}, "share", "expected float, got bool true"),
        ({"share": 0}, "share", "must be > 0.0 and <= 1.0, got 0.0"),
        ({"share": math.nan}, "share", "expected a finite float, got float nan"),
        ({"share": 10**400}, "share", "expected a finite float, got int 1000"),
        ({"name": 1}, "name", "expected string, got int 1"),
        ({"size": math.inf}, "size", "expected a finite float, got float inf"),
        ({"size": -1}, "size", "must be > 0.0, got -1.0"),
        ({"size": "small"}, "size", "expected float or \"auto\", got string 'small'"),
        ({"mode": "exakt"}, "mode", 'expected "fast" or "exact", got string \'exakt\''),
        ({"low": 1.0}, "low", "expected array of float, got float 1.0"),
        ({"low": [0, 0.5, 2]}, "low[2]", "must be <= 1.0, got 2.0"),
        ({"low": [0, "0"]}, "low[1]", "expected float, got string '0'"),
        ({"names": ["a", 1]}, "names[1]", "expected string, got int 1"),
        ({"names": "a"}, "names", "expected array of string, got string 'a'"),
        ({"names": [{"a": 1}]}, "names[0]", "expected string, got a table"),
        ({"name": "lookup"}, "", "KeyError: 'lookup'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:30],
)
def test_types_are_strict_and_limits_hold(table: dict[str, Any], path: str, told: str) -> None:
    built, problems = build(Example, table)
    assert built is None
    assert len(problems) == 1
    assert problems[0].path == (f"step.{path}" if path else "step")
    assert problems[0].message.startswith(told)
    assert path == "" or problems[0].hint


def test_only_an_int_becomes_a_float() -> None:
    built, problems = build(Example, {"share": 1, "size": 2, "low": [0, -1]})
    assert not problems
    assert [type(x) for x in (built.share, built.size, *built.low)] == [float] * 4


def test_limits_hold_in_python_as_well() -> None:
    with pytest.raises(ValueError, match=r"count must be >= 0 and < 10, got 10"):
        Example(count=10)
    with pytest.raises(ValueError, match=r"low\[1\] must be <= 1.0, got 2.0"):
        Example(low=(0.0, 2.0))


def test_all_problems_of_a_table_are_told_at_once() -> None:
    _, problems = build(Example, {"falg": True, "count": -1, "share": "1", "low": [2, 3]})
    assert [problem.path for problem in problems] == [
        "step.falg",
        "step.count",
        "step.share",
        "step.low[0]",
        "step.low[1]",
    ]
    assert problems[0].hint == "did you mean 'flag'?"
    assert problems[2].hint == "write 1 without quotes"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    body = chain_schema(REGISTRY)
    Draft202012Validator.check_schema(body)
    return Draft202012Validator(body)


def test_iirl_schema_prints_the_schema_as_valid_json(
    schema: Draft202012Validator, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["schema"])
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    Draft202012Validator.check_schema(printed)
    assert printed == json.loads(json.dumps(schema.schema))


def test_every_type_of_option_has_a_valid_schema() -> None:
    Draft202012Validator.check_schema(options_schema(Example))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_recipes_pass_the_checker_and_the_schema_before_and_after_their_dump(
    schema: Draft202012Validator, recipe: Path
) -> None:
    schema.validate(tomllib.loads(recipe.read_text(encoding="utf-8")))
    chain = read_chain(recipe)
    schema.validate(tomllib.loads(chain.dump()))


@pytest.mark.parametrize(
    "case", [c for c in GOLDEN if c.stem not in NO_TABLES], ids=lambda file: file.stem
)
def test_the_schema_refuses_every_mistake_that_a_schema_can_see(
    schema: Draft202012Validator, case: Path
) -> None:
    table = tomllib.loads(case.read_text(encoding="utf-8"))
    assert schema.is_valid(table) == (case.stem in UNSEEN)
