"""A careful plugin passes every check, and each careless one fails the check it is made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from iirl_engine.testing import checks
from iirl_engine.testing.kit import _OF_OFFERS, _OF_PLUGINS
from tests.careful_plugin import CAREFUL, OFFERED, failing, files, installed, swapped, verdicts
from tests.careless import ABILITIES, CARELESS, LOSS, Careless


def test_the_careful_plugin_passes_every_check(tmp_path: Path) -> None:
    with installed(tmp_path, files(OFFERED)) as plugin:
        made = {str(one) for one in checks(plugin)}
        assert verdicts(plugin) == {}
    for kind, name, _ in _OF_OFFERS:
        of = OFFERED if kind == "any" else [kind]
        assert {f"{k} good-{k}: {name}" for k in of} <= made


@pytest.mark.parametrize("careless", CARELESS.values(), ids=CARELESS)
def test_a_careless_plugin_fails_its_one_check(careless: Careless, tmp_path: Path) -> None:
    with installed(tmp_path, careless.files()) as plugin:
        found = verdicts(plugin)
    assert failing(found) == {careless.check}, found


def test_an_encoder_that_needs_negatives_is_given_them(tmp_path: Path) -> None:
    changed = files(["encoder"])
    text = swapped(changed["strategies.py"], ABILITIES, ABILITIES.replace("optional", "required"))
    needs = "if not len(demonstrations.negatives):\n    raise DataError('it needs negatives')\n"
    settle = "self.mean = torch.tensor(demonstrations.states.mean(axis=0)) + self.jitter"
    text = swapped(text, settle, needs + settle)
    changed["strategies.py"] = "from iirl_engine import DataError\n" + text.replace(
        "from __future__ import annotations\n", ""
    )
    with installed(tmp_path, changed) as plugin:
        assert verdicts(plugin) == {}


def test_an_encoder_that_denies_a_gradient_is_asked_for_none(tmp_path: Path) -> None:
    changed = files(["encoder"], "strategies", LOSS, LOSS + ".detach()")
    denied = ABILITIES.replace("Abilities(", "Abilities(gradient=False, ")
    changed["strategies.py"] = swapped(changed["strategies.py"], ABILITIES, denied)
    with installed(tmp_path, changed) as plugin:
        found = verdicts(plugin)
    assert found == {
        "encoder good-encoder: loss-is-differentiable (RuledOut)": (
            "its abilities deny a gradient"
        ),
    }


def refiner(cls: str, old: str = "", new: str = "") -> dict[str, str]:
    """Return the careful plugin's modules, offering a refiner with needs, spoilt in one place."""
    changed = files(["refiner"])
    target = "strategies:Refiner", f"revising:{cls}"
    changed["hooks.py"] = swapped(changed["hooks.py"], *target)
    text = (CAREFUL / "revising.py").read_text()
    return changed | {"revising.py": swapped(text, old, new) if old else text}


@pytest.mark.parametrize("cls", ["Unlearning", "Contrasting", "Tidying"])
def test_a_refiner_is_given_what_it_needs(cls: str, tmp_path: Path) -> None:
    with installed(tmp_path, refiner(cls)) as plugin:
        assert verdicts(plugin) == {}


@pytest.mark.parametrize(
    ("cls", "old", "new", "check"),
    [
        ("Unlearning", "encoder.unlearn(take(", "(take(", "flaws-are-closed"),
        ("Contrasting", "= repair.flaws.states", "= data.negatives", "flaws-are-closed"),
        ("Tidying", "Proposal([one],", "Proposal([],", "what-it-replaces-is-not-missed"),
    ],
)
def test_a_refiner_that_wastes_what_it_needs_fails(
    cls: str, old: str, new: str, check: str, tmp_path: Path
) -> None:
    with installed(tmp_path, refiner(cls, old, new)) as plugin:
        assert failing(verdicts(plugin)) == {check}


def test_a_refiner_whose_needs_no_world_meets_is_not_checked_further(tmp_path: Path) -> None:
    with installed(tmp_path, refiner("Unlearning", '{"unlearn"}', '{"formula"}')) as plugin:
        found = verdicts(plugin)
    assert len(found) > 3
    assert set(found.values()) == {"no known-answer world offers all that it needs: formula"}


def test_a_refiner_that_tidies_nothing_is_said_to(tmp_path: Path) -> None:
    with installed(tmp_path, refiner("Tidying", "if not old:", "if old or True:")) as plugin:
        found = verdicts(plugin)
    assert found == {
        "refiner good-refiner: flaws-are-closed (RuledOut)": (
            "it closes no flaw, and finds nothing to tidy among kernels"
        ),
    }


def test_every_check_has_a_plugin_that_fails_it() -> None:
    of_plugins = {("plugin", name) for name, _ in _OF_PLUGINS}
    of_offers = {(kind, name) for kind, name, _ in _OF_OFFERS}
    shown = {
        (kind, one.check)
        for one in CARELESS.values()
        for kind in ("plugin", "any", one.kind)
        if (kind, one.check) in of_plugins | of_offers
    }
    assert shown == of_plugins | of_offers


def test_a_failed_check_says_what_was_wrong(tmp_path: Path) -> None:
    with installed(tmp_path, CARELESS["switches gradients off"].files()) as plugin:
        said = verdicts(plugin)["auditor good-auditor: reward-is-untouched (CheckFailed)"]
    assert said == "gradients were switched on or off"
    import torch

    assert torch.is_grad_enabled()


def test_what_cannot_be_loaded_is_one_failure_and_the_rest_is_not_checked(tmp_path: Path) -> None:
    with installed(tmp_path, CARELESS["a target that is not there"].files()) as plugin:
        found = verdicts(plugin)
    assert "Auditer" in found.pop("auditor good-auditor: target-is-of-its-kind (CheckFailed)")
    assert len(found) > 5
    assert set(found.values()) == {"its target cannot be loaded"}
