"""How refused candidates are taken apart, and what no candidate may do, whatever the gates say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iirl_engine import cli
from iirl_engine.knowledge import Knowledge
from iirl_engine.release import load_release
from iirl_engine.testing import fake_dist, run_chain
from tests.edge_world import WORLD, write_demonstrations

HOOKS = """
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_refiners():
    for name in ("Grid", "Fat", "Half", "Needles", "Undo", "Boast", "Resigned"):
        yield Offer(name.lower(), f"mending.strategies:{name}")


@hookimpl
def iirl_gates():
    for name in ("Corner", "Never", "Final", "Yes"):
        yield Offer(name.lower(), f"mending.strategies:{name}")
"""

STRATEGIES = """
import numpy as np

from iirl_engine import Gate, Judgement, Kernels, Proposal, Refiner

# Centres beyond x0 = 0.5 whose kernels, 0.3 wide, overlap.
X, Y = np.meshgrid(np.linspace(0.82, 1.0, 4), np.linspace(-1.05, 1.05, 36))
CENTERS = np.stack([X.ravel(), Y.ravel()], axis=1)


def kernels(context, centers, radius, strength, name="grid"):
    count = len(centers)
    return Kernels(id=f"r{context.round}-{name}", refiner=context.id, round=context.round,
                   centers=centers, radii=np.full(count, radius),
                   strengths=np.full(count, strength))


class Grid(Refiner):
    def propose(self, repair, context):
        return [kernels(context, CENTERS, 0.34, 1e6)] if len(repair.flaws) else []


class Fat(Refiner):
    "The grid, and one kernel that reaches the known-good states."
    def propose(self, repair, context):
        grid = kernels(context, CENTERS, 0.34, 1e6)
        fat = kernels(context, np.zeros((1, 2)), 0.4, 0.8, "fat")
        return [grid, fat]


class Half(Refiner):
    "Half of the grid, and for the rest one kernel that reaches the known-good states."
    def propose(self, repair, context):
        grid = kernels(context, CENTERS[:72], 0.34, 1e6)
        return [grid, kernels(context, np.array([[0.6, 0.8]]), 1.5, 50.0, "fat")]


class Needles(Refiner):
    "Closes the very flaws that it is shown."
    def propose(self, repair, context):
        return [kernels(context, repair.flaws.states, 1e-6, 2.0)]


class Undo(Refiner):
    "In the first round the grid; then everything is taken away for a lift elsewhere."
    def propose(self, repair, context):
        if context.round == 1:
            return [kernels(context, CENTERS[:90], 0.34, 1e6)]
        old = [c.id for c in repair.model.corrections]
        return Proposal([kernels(context, CENTERS[90:], 0.34, 1e6)], replaces=old)


class Boast(Refiner):
    def propose(self, repair, context):
        return Proposal([kernels(context, CENTERS[:60], 0.34, 1e6)], closes=21867, worst_loss=0.0)


class Resigned(Refiner):
    def propose(self, repair, context):
        late = np.flatnonzero(repair.flaws.states[:, 1] > 0.6)
        few = kernels(context, CENTERS[:72], 0.34, 1e6)
        return Proposal([few], left={r: "it is too late" for r in late})


class Corner(Gate):
    "Refuses what changes the reward at one state; blames nobody."
    def judge(self, candidate, evidence, context):
        state = np.array([[0.9, 0.9]])
        change = float((evidence.current(state) - candidate.model(state))[0])
        reason = "the corner changes" if change else ""
        return Judgement(context.id, not reason, {"change": change}, reason)


class Never(Gate):
    def judge(self, candidate, evidence, context):
        return Judgement(context.id, False, {}, "not today")


class Yes(Gate):
    def judge(self, candidate, evidence, context):
        return Judgement(context.id, True, {})


class Final(Gate):
    def judge(self, candidate, evidence, context):
        return Judgement(context.id, False, {}, "not at all", blames=())
"""

CHAIN = f"""
[flywheel]
rounds = ROUNDS
{WORLD}
[[audit]]
use = "sobol"
budget = 512
[[report]]
use = "text"
[[refine]]
use = "REFINER"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    work, site = tmp_path / "work", tmp_path / "site"
    work.mkdir()
    site.mkdir()
    write_demonstrations(work)
    files = {"mending/__init__.py": "", "mending/hooks.py": HOOKS}
    files["mending/strategies.py"] = STRATEGIES
    with fake_dist(site, "mending", files, module="mending.hooks"):
        yield work


def chain(refiner: str, *gates: str, rounds: int = 1) -> str:
    text = CHAIN.replace("REFINER", refiner).replace("ROUNDS", str(rounds))
    return text + "".join(f'[[gate]]\nuse = "{gate}"\n' for gate in gates)


def test_a_candidate_that_passes_is_one_attempt(folder: Path) -> None:
    (turn,) = run_chain(chain("grid", "known-good", "closure"), folder).rounds
    assert [attempt.ok for attempt in turn.attempts] == [True]
    assert turn.open == 0
    assert turn.release == 1
    (told,) = turn.predictions
    assert (told.by, told.wrong) == ("engine", False)
    assert told.withheld > 0
    assert told.closed_withheld == told.withheld
    assert told.kept == told.closed == told.asked == told.expected_closes


@pytest.mark.parametrize("gates", [("known-good", "closure"), ("yes",)])
def test_what_breaks_the_cap_is_left_out_with_or_without_a_gate(
    folder: Path, gates: tuple[str, ...]
) -> None:
    outcome = run_chain(chain("fat", *gates), folder)
    (turn,) = outcome.rounds
    first, second = turn.attempts
    assert first.refused_by == ("known-good" if len(gates) == 2 else "engine")
    assert "lose more than 0.1" in first.reason
    assert second.ok
    model = load_release(outcome.release)
    assert [(c.id, c.approved) for c in model.corrections] == [("r1-grid", "auto")]
    assert turn.open == 0


def test_what_was_given_up_is_not_asked_for(folder: Path) -> None:
    outcome = run_chain(chain("half", "known-good", "closure"), folder)
    (turn,) = outcome.rounds
    assert [attempt.refused_by for attempt in turn.attempts] == ["known-good", ""]
    assert turn.release == 1
    assert 0.3 < turn.open / turn.confirmed < 0.7
    assert all("lose more than 0.1" in left.reason for left in outcome.left_open)


def test_a_gate_that_blames_nobody_has_the_culprits_found_by_halves(folder: Path) -> None:
    outcome = run_chain(chain("grid", "corner", "closure"), folder)
    (turn,) = outcome.rounds
    assert not turn.attempts[0].ok
    assert 2 < len(turn.attempts) <= 16
    assert turn.release == 1
    model = load_release(outcome.release)
    assert 0 < sum(c.count for c in model.corrections) < 144
    assert 0 < turn.open < turn.confirmed
    assert all(gate.ok for gate in turn.gates)
    (left,) = [told for told in outcome.left_open if "corner" in told.reason]
    assert left.reason == "gate corner refused what would close it: the corner changes"
    assert left.flaws == turn.open
    assert "corner changes" in (outcome.run / "report.txt").read_text()
    assert not outcome.ok


def test_attempts_are_bounded_and_all_are_on_record(folder: Path) -> None:
    outcome = run_chain(chain("grid", "never"), folder)
    (turn,) = outcome.rounds
    assert turn.release is None
    assert 10 < len(turn.attempts) <= 16
    assert {attempt.refused_by for attempt in turn.attempts} == {"never"}
    knowledge = Knowledge(outcome.run)
    assert knowledge.rounds()[0].attempts == turn.attempts
    assert knowledge.rounds() == outcome.rounds
    knowledge.close()


def test_a_gate_may_say_that_no_smaller_candidate_would_do(folder: Path) -> None:
    (turn,) = run_chain(chain("grid", "final"), folder).rounds
    assert len(turn.attempts) == 1
    assert turn.release is None


def test_withheld_flaws_tell_needles_from_regions_and_are_closed_in_the_end(folder: Path) -> None:
    text = chain("needles", "known-good", "closure") + "held_out_share = 0.0\n"
    outcome = run_chain(text, folder)
    (turn,) = outcome.rounds
    shown, rest = turn.predictions
    assert shown.withheld == rest.asked > 20
    assert shown.closed_withheld == 0
    assert turn.open == 0
    ids = [c.id for c in load_release(outcome.release).corrections]
    assert ids == ["r1-grid", "r1-grid-again"]


def test_closure_may_be_asked_of_flaws_that_no_refiner_was_shown(folder: Path) -> None:
    (turn,) = run_chain(chain("needles", "closure"), folder).rounds
    assert turn.release is None
    assert turn.gates[0].numbers["share"] == 1
    assert turn.gates[0].numbers["held_out_share"] == 0
    assert "that no refiner was shown" in turn.gates[0].reason


def test_closed_flaws_do_not_reopen_though_no_gate_minds(folder: Path) -> None:
    outcome = run_chain(chain("undo", "yes", rounds=2), folder)
    first, second = outcome.rounds
    assert first.release == 1
    assert second.release is None
    assert second.attempts[0].refused_by == "engine"
    assert "closed flaws that would reopen" in second.attempts[0].reason


def test_corrections_say_what_they_close_and_flaws_by_what_they_close(folder: Path) -> None:
    outcome = run_chain(chain("grid"), folder)
    (correction,) = load_release(outcome.release).corrections
    assert correction.closes == outcome.rounds[0].closed
    knowledge = Knowledge(outcome.run)
    rows = knowledge._db.execute("SELECT closed_by, open_because FROM flaw").fetchall()
    knowledge.close()
    assert set(rows) == {("r1-grid", None)}


def test_a_refiner_may_say_what_it_cannot_close(folder: Path) -> None:
    outcome = run_chain(chain("resigned", "yes"), folder)
    assert "refiner resigned: it is too late" in [told.reason for told in outcome.left_open]


def test_a_wrong_prediction_is_in_everybodys_face(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "chain.toml"
    file.write_text(chain("boast"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(file), "--out", str(folder / "run")])
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "!! round 1: boast, by its own estimate, closes 21,867 of" in said
    with pytest.raises(SystemExit):
        cli.main(["status", str(folder / "run")])
    assert "predicted:  WRONG, boast, by its own estimate" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["status", str(folder / "run"), "--json"])
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert told["expected_closes"] == 21867
    assert 0 < told["closed"] < told["asked"]


def test_one_seed_makes_one_repair(folder: Path) -> None:
    turns, kernels = [], []
    for name in ("one", "other"):
        (folder / name).mkdir()
        (folder / name / "demos.npz").write_bytes((folder / "demos.npz").read_bytes())
        outcome = run_chain(chain("grid", "corner", "closure"), folder / name)
        turns.append(outcome.rounds[0])
        kernels.append(load_release(outcome.release).corrections[0].tensors())
    first, second = turns
    assert (first.attempts, first.predictions) == (second.attempts, second.predictions)
    for name, array in kernels[0].items():
        assert np.array_equal(array, kernels[1][name])
