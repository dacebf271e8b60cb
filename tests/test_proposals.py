"""What a refiner needs, proposes and expects: checked before anybody relies on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import iirl_engine as iirl
from iirl_engine import cli
from iirl_engine.release import load_release
from iirl_engine.testing import fake_dist, run_chain
from tests.edge_world import WORLD, write_demonstrations

HOOKS = """
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_refiners():
    for name in ("Greedy", "Boastful", "Replacing", "Tidying", "Blind", "Needy", "Odd"):
        yield Offer(name.lower(), f"proposing.refiners:{name}")
"""

REFINERS = """
import numpy as np

from iirl_engine import Kernels, Proposal, Refiner


def ball(context, name, strength=1e9):
    return Kernels(id=name, refiner=context.id, round=context.round, centers=[[30.3, 0.0]],
                   radii=[30.0], strengths=[strength])


class Greedy(Refiner):
    def propose(self, repair, context):
        return [ball(context, f"r{context.round}-greedy")]


class Boastful(Refiner):
    def propose(self, repair, context):
        return Proposal([ball(context, "boast")], closes=-1)


class Replacing(Refiner):
    tidies = True

    def propose(self, repair, context):
        old = [c.id for c in repair.model.corrections]
        return Proposal([ball(context, f"one-{context.round}", 2e9)], replaces=old)


class Tidying(Refiner):
    def propose(self, repair, context):
        raise AssertionError("asked although nothing is open")


class Blind(Refiner):
    def propose(self, repair, context):
        return Proposal([], replaces=["nothing-there"])


class Needy(Greedy):
    needs = frozenset({"negatives", "unlearn"})


class Odd(Greedy):
    needs = frozenset({"luck"})
"""

CHAIN = f"""
[flywheel]
rounds = 1
{WORLD}
[[audit]]
use = "sobol"
budget = 256
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    work = tmp_path / "work"
    work.mkdir()
    write_demonstrations(work)
    files = {"proposing/__init__.py": "", "proposing/hooks.py": HOOKS}
    files["proposing/refiners.py"] = REFINERS
    site = tmp_path / "site"
    site.mkdir()
    with fake_dist(site, "proposing", files, module="proposing.hooks"):
        yield work


def steps(*names: str) -> str:
    return CHAIN + "".join(f'[[refine]]\nuse = "{name}"\n' for name in names)


def test_a_proposal_may_replace_what_is_there(folder: Path) -> None:
    outcome = run_chain(steps("greedy", "replacing"), folder)
    model = load_release(outcome.release)
    assert [correction.id for correction in model.corrections] == ["one-1"]
    assert outcome.open_flaws == 0


def test_who_does_not_tidy_is_not_asked_when_nothing_is_open(folder: Path) -> None:
    assert run_chain(steps("replacing", "tidying"), folder).open_flaws == 0


@pytest.mark.parametrize(
    ("refiner", "said"),
    [
        ("boastful", r"expects to close -1 flaws"),
        ("blind", "replaces corrections that there are not: .'nothing-there'"),
        ("odd", "'luck'.* is none of negatives"),
    ],
)
def test_what_makes_no_sense_is_the_refiners_fault(folder: Path, refiner: str, said: str) -> None:
    with pytest.raises(iirl.PluginError) as caught:
        run_chain(steps(refiner), folder)
    assert caught.match("refiner proposing:")
    assert str(caught.value.got)
    assert re.search(said, str(caught.value.got))


def test_needs_are_checked_before_anything_is_audited(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = folder / "chain.toml"
    chain.write_text(steps("needy").replace('use = "knn"', 'use = "moe-autoencoder"'))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(chain), "--out", str(folder / "run")])
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert "refiner proposing:needy needs what this chain does not give it" in said
    assert "demonstrations with negatives" in said
    assert "an encoder that unlearns exactly" in said
    assert "sobol" not in said


def test_plugins_show_says_what_a_refiner_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["plugins", "show", "needy"], ["plugins", "show", "needy", "--json"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
    said = capsys.readouterr().out
    assert "    needs negatives, unlearn\n" in said
    (strategy,) = json.loads(said[said.index("{") :])["strategies"]
    assert strategy["needs"] == ["negatives", "unlearn"]
