"""The Hypothesis strategies give what they promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iirl_engine.api import Context
from iirl_engine.builtin.severity import Severity
from iirl_engine.chain import check_chain
from iirl_engine.chain_file import MANY, SINGLE
from iirl_engine.demonstrations import hold_out
from iirl_engine.errors import ChainError, Problem
from iirl_engine.options import NoOptions
from iirl_engine.plugins import Plugins
from iirl_engine.records import Demonstrations, Flaws
from iirl_engine.registry import Registry
from iirl_engine.testing.strategies import chain_tables, demonstrations, flaws

REGISTRY = Registry(Plugins())


@given(data=demonstrations(), share=st.floats(0, 0.999), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_holding_out_loses_and_doubles_no_state(
    data: Demonstrations, share: float, seed: int
) -> None:
    split = hold_out(data, share, np.random.default_rng(seed))
    assert len(split.states) >= 1
    together = np.concatenate([split.states, split.held_out])
    assert sorted(map(tuple, together)) == sorted(map(tuple, data.states))


@given(batch=flaws(2))
@settings(max_examples=50, deadline=None)
def test_severity_ranks_every_flaw_once(batch: Flaws) -> None:
    order = Severity(NoOptions()).rank(batch, Context("triage", "severity", 0, 1))
    assert sorted(order.tolist()) == list(range(len(batch)))


@given(tables=chain_tables(REGISTRY))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_chain_of_installed_strategies_is_checked_and_comes_back_from_its_dump(
    tables: dict[str, Any],
) -> None:
    try:
        chain = check_chain(tables, REGISTRY, Path("chain.toml"))
    except ChainError as error:
        for problem in error.problems:
            assert is_absent(problem) or is_relation(problem, tables), problem
        return
    assert all(name in chain.dump() for name, _ in chain.plugins)


def is_absent(problem: Problem) -> bool:
    """Tell whether an option names a file that is not there, or a step that it cannot lead."""
    told = ("there is no such file: ", "must name another ", "must not name ")
    return problem.message.startswith(told)


def is_relation(problem: Problem, tables: dict[str, Any]) -> bool:
    """Tell whether the options of a step contradict each other.

    This is told of the step, and names an option. What is wrong with one option alone is told of
    that option, and an options class that breaks down is told with the name of its error.
    """
    place = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", problem.path)
    if place is None or re.match(r"\w+Error: ", problem.message):
        return False
    table, index = place.groups()
    step = tables[table] if index is None else tables[table][int(index)]
    entry = REGISTRY.find(SINGLE.get(table) or MANY[table], step["use"])
    options = attrs.fields_dict(entry.offer.options)
    return len(options) > 1 and bool(set(re.findall(r"\w+", problem.message)) & options.keys())
