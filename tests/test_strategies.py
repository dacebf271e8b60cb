"""The Hypothesis strategies give what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iirl_engine.api import Context
from iirl_engine.builtin.severity import Severity
from iirl_engine.chain import check_chain
from iirl_engine.demonstrations import hold_out
from iirl_engine.errors import ChainError
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
    tables: dict[str, object],
) -> None:
    try:
        chain = check_chain(tables, REGISTRY, Path("chain.toml"))
    except ChainError as error:
        relations = (
            "no such file",
            "must be below",
            "same length",
            "must differ",
            "must have",
            "must name",
            "must rise",
            "must not",
        )
        for problem in error.problems:
            assert any(told in problem.message for told in relations), problem
        return
    assert all(name in chain.dump() for name, _ in chain.plugins)
