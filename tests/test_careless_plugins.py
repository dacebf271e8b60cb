"""A careful plugin passes every check, and each careless one fails the check it is made for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from iirl_engine.errors import UsageError
from iirl_engine.hookspecs import KINDS
from iirl_engine.testing import CheckFailed, checks, conformance, fake_dist, run_chain
from iirl_engine.testing.kit import _OF_OFFERS, _OF_PLUGINS, NotApplicable
from tests.distributions import Environment, write_installed

CAREFUL = Path(__file__).parent / "careful"
OFFERED = tuple(kind for kind in KINDS if kind != "command")
OPTIONS = {"auditor": "AuditorOptions", "norm": "NormOptions", "executor": "ExecutorOptions"}


@attrs.frozen
class Careless:
    """The careful plugin's strategy of one kind, spoilt in one place.

    Parameters
    ----------
    check
        The one check that it fails.
    kind
        What it offers.
    file
        Where it is spoilt.
    old, new
        What stands there in the careful plugin, and what instead.
    """

    check: str
    kind: str
    file: str
    old: str
    new: str

    def files(self) -> dict[str, str]:
        return files([self.kind], self.file, self.old, self.new)


def files(kinds: Iterable[str], file: str = "", old: str = "", new: str = "") -> dict[str, str]:
    """Return the modules of the careful plugin, offering these kinds, spoilt in one place."""
    texts = {"hooks": hooks(kinds)}
    for name in ("__init__", "options", "strategies"):
        texts[name] = (CAREFUL / f"{name}.py").read_text()
    if file:
        texts[file] = swapped(texts[file], old, new)
    return {f"{name}.py": text for name, text in texts.items()}


def swapped(text: str, old: str, new: str) -> str:
    """Return a text with one line, which is there once, replaced by others as deeply indented."""
    assert text.count(old) == 1, old
    line = next(line for line in text.splitlines() if old.splitlines()[0] in line)
    indent = " " * (len(line) - len(line.lstrip()))
    return text.replace(old, new.replace("\n", "\n" + indent))


def hooks(kinds: Iterable[str]) -> str:
    lines = ["from iirl_engine import Offer, hookimpl"]
    lines += ["IIRL_API = 1"]
    for kind in kinds:
        options = f'"careful.options:{OPTIONS[kind]}", ' if kind in OPTIONS else ""
        target = f"careful.strategies:{kind.capitalize()}"
        lines += ["@hookimpl", f"def {KINDS[kind][0]}():"]
        lines += [
            f'    yield Offer("good-{kind}", "{target}", {options}summary="a careful {kind}")'
        ]
    return "\n".join(lines) + "\n"


def spoilt(check: str, kind: str, old: str, new: str, file: str = "strategies") -> Careless:
    return Careless(check, kind, file, old, new)


ABILITIES = 'abilities = Abilities(negatives="optional", unlearning=True, incremental=True)'
LOSS = "loss = (away.square() + toward).sum(dim=1)"
MOST = ".amax(dim=1)"
UNCERTAINTY = "return (states - self.mean).abs()" + MOST
FLUSH = "yield states[suspect]"
SHARE = "share = torch.tensor(generator.random((count, len(target.low))))"
REWARD = "reward = target.reward(states)"
SUSPECT = "suspect = (reward > target.floor) & (target.violation(states) > 0)"
GENERATOR = "generator = context.generator()"
TOLD = '{"reward": highest}'
LOOP = "while target.remaining > 0:\n            count = min(256, target.remaining)"
MAP = "return torch.exp(-loss / self.scale)"
STRENGTH = "return torch.exp(-t / 100)"
VIOLATION = "return torch.linalg.vector_norm(states - self.mean, dim=1) - self.radius"
FORMULA = "def formula(self): return %s\n"
CORRECTIONS = "count = len(repair.flaws)"

# Every defect is one that an author might well commit.
CARELESS = {
    "imports scipy in its hook module": spoilt(
        "hook-module-is-light", "source", "IIRL_API = 1", "import scipy\nIIRL_API = 1", "hooks"
    ),
    "imports scipy in its options module": spoilt(
        "options-modules-are-light", "norm", "import attrs", "import attrs\nimport scipy", "options"
    ),
    "a hook with a default argument": spoilt(
        "hooks-are-plain-functions",
        "source",
        "def iirl_sources():",
        "def iirl_sources(all=True):",
        "hooks",
    ),
    "a name in capitals": spoilt(
        "name-is-kebab-case", "source", '"good-source"', '"Good_Source"', "hooks"
    ),
    "no summary": spoilt(
        "summary-is-one-line", "source", ', summary="a careful source"', "", "hooks"
    ),
    "a target that is not there": spoilt(
        "target-is-of-its-kind", "auditor", "strategies:Auditor", "strategies:Auditer", "hooks"
    ),
    "a target of another kind": spoilt(
        "target-is-of-its-kind", "encoder", "strategies:Encoder", "strategies:Norm", "hooks"
    ),
    "a method that is not implemented": spoilt(
        "target-is-of-its-kind", "encoder", "def encode(self, states)", "def code(self, states)"
    ),
    "an option without help": spoilt(
        "options-are-documented",
        "norm",
        """reach: float = option(2.0, gt=0, help="multiple of the experts' own spread")""",
        "reach: float = 2.0",
        "options",
    ),
    "an option that is changed when it is read": spoilt(
        "options-survive-toml",
        "auditor",
        'label: str = option("uniform", help="what the notes call it")',
        'label: str = attrs.field(default="uniform", converter=str.lower, '
        'metadata={"help": "what the notes call it"})',
        "options",
    ),
    "a lambda kept on self": spoilt(
        "strategy-can-be-pickled",
        "triage",
        "def rank(self, flaws, context):",
        "def __init__(self, options):\n    super().__init__(options)\n"
        "    self.key = lambda flaws: -flaws.violations\n\ndef rank(self, flaws, context):",
    ),
    # Sources
    "draws other demonstrations each time": spoilt(
        "the-same-demonstrations-each-time",
        "source",
        "states = context.generator()",
        "states = np.random.default_rng()",
    ),
    "demonstrations open to writing": spoilt(
        "states-are-finite-and-closed",
        "source",
        'return check(states, origin="careful")',
        "made = check(states)\nmade.states.setflags(write=True)\nreturn made",
    ),
    # Encoders
    "a loss of shape [n, 1]": spoilt(
        "loss-is-a-finite-number-per-state", "encoder", LOSS, LOSS + "[:, None]"
    ),
    "strangers are like experts": spoilt(
        "experts-lose-less-than-strangers", "encoder", LOSS, LOSS + "\nloss = loss * (loss < 50)"
    ),
    "normalises by the batch": spoilt(
        "rows-do-not-depend-on-their-batch",
        "encoder",
        LOSS,
        LOSS + "\nloss = loss / (1 + loss.mean())",
    ),
    "cuts outliers in place": spoilt(
        "states-are-untouched", "encoder", LOSS, "states.detach().clamp_(-5, 5)\n" + LOSS
    ),
    "leaves torch on the way": spoilt(
        "loss-is-differentiable", "encoder", LOSS, LOSS + ".detach()"
    ),
    "learns something else each time": spoilt(
        "same-seed-same-bits",
        "encoder",
        "jitter = context.generator()",
        "jitter = np.random.default_rng()",
    ),
    "learns with the global generator": spoilt(
        "global-randomness-is-untouched",
        "encoder",
        "jitter = context.generator().normal(size=3)",
        "torch.manual_seed(context.seed)\njitter = torch.randn(3).numpy()",
    ),
    "forgets what it learned": spoilt(
        "release-brings-it-back",
        "encoder",
        'self.jitter = tensors["jitter"]',
        'self.jitter = tensors["jitter"]\n'
        "self.mean = torch.tensor(demonstrations.states.mean(axis=0))",
    ),
    "loses in whole steps": spoilt(
        "loss-is-differentiable", "encoder", LOSS, LOSS + "\nloss = (64 * loss).floor() / 64"
    ),
    "a gradient of half the size": spoilt(
        "gradient-is-that-of-the-loss",
        "encoder",
        "return loss, gradient",
        "return loss, gradient / 2",
    ),
    "denies that it uses negatives": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        ABILITIES,
        ABILITIES.replace("optional", "ignored"),
    ),
    "does without the negatives that it requires": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        ABILITIES,
        ABILITIES.replace("optional", "required"),
    ),
    "has an ability that there is not": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        ABILITIES,
        ABILITIES.replace("optional", "needed"),
    ),
    "never looks at negatives": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        "negatives = torch.tensor(demonstrations.negatives)",
        "negatives = torch.zeros(0, 3)",
    ),
    "takes negatives for experts": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        "if len(negatives) else 0 * self.mean",
        "if len(negatives) else 0 * self.mean\n"
        "self.mean = negatives.mean(dim=0) if len(negatives) else self.mean",
    ),
    "turns from the wrong side": spoilt(
        "negatives-are-used-as-declared",
        "encoder",
        "toward = (away * self.apart).clamp(min=0)",
        "toward = -(away * self.apart).clamp(max=0)",
    ),
    "codes a state by its batch": spoilt(
        "autoencoders-map-states-to-states",
        "encoder",
        "return (states - self.mean)[:, :1]",
        "return (states - states.mean(dim=0))[:, :1]",
    ),
    "denies that it can unlearn": spoilt(
        "unlearning-is-as-declared",
        "encoder",
        ABILITIES,
        ABILITIES.replace("unlearning=True, ", ""),
    ),
    "unlearns nothing": spoilt(
        "unlearning-is-as-declared", "encoder", "self.settle(rest)", "return rest"
    ),
    "unlearns by halves": spoilt(
        "unlearning-is-as-declared",
        "encoder",
        "self.settle(rest)",
        "before = self.mean\nself.settle(rest)\nself.mean = (before + self.mean) / 2",
    ),
    "cannot unlearn once released": spoilt(
        "unlearning-is-as-declared",
        "encoder",
        'self.jitter = tensors["jitter"]',
        'self.jitter = 0 * tensors["jitter"]',
    ),
    "denies that it can be extended": spoilt(
        "incremental-learning-is-as-declared",
        "encoder",
        ABILITIES,
        ABILITIES.replace(", incremental=True", ""),
    ),
    "is extended by nothing": spoilt(
        "incremental-learning-is-as-declared",
        "encoder",
        "def extend(self, demonstrations, context):",
        "def extend(self, demonstrations, context):\n    return\n\n"
        "def anew(self, demonstrations, context):",
    ),
    "is extended to NaN": spoilt(
        "incremental-learning-is-as-declared",
        "encoder",
        "def extend(self, demonstrations, context):",
        "def extend(self, demonstrations, context):\n    self.jitter = self.jitter * torch.nan",
    ),
    "forgets the first when it is extended": spoilt(
        "incremental-learning-is-as-declared",
        "encoder",
        "def extend(self, demonstrations, context):",
        "def extend(self, demonstrations, context):\n"
        "    demonstrations = check(demonstrations.states[-30:])",
    ),
    "draws from the global generator when it is extended": spoilt(
        "incremental-learning-is-as-declared",
        "encoder",
        "def extend(self, demonstrations, context):",
        "def extend(self, demonstrations, context):\n    torch.rand(1)",
    ),
    "an uncertainty of shape [n, d]": spoilt(
        "uncertainty-is-a-number-per-state", "encoder", UNCERTAINTY, UNCERTAINTY[: -len(MOST)]
    ),
    "an uncertainty below 0": spoilt(
        "uncertainty-is-a-number-per-state",
        "encoder",
        UNCERTAINTY,
        UNCERTAINTY.replace(".abs()", ""),
    ),
    "an uncertainty without end": spoilt(
        "uncertainty-is-a-number-per-state", "encoder", UNCERTAINTY, UNCERTAINTY + " / 0"
    ),
    "an uncertainty relative to the batch": spoilt(
        "uncertainty-is-a-number-per-state",
        "encoder",
        UNCERTAINTY,
        UNCERTAINTY.replace("self.mean", "states.mean(dim=0)"),
    ),
    "a formula of another loss": spoilt(
        "formula-is-the-loss",
        "encoder",
        "def autoencoders(self):",
        FORMULA % '[{"op": "mean-square", "of": 0}]' + "def autoencoders(self):",
    ),
    # Mappings
    "rewards above 1": spoilt(
        "rewards-lie-in-0-to-1", "mapping", MAP, MAP.replace("n t", "n 2 * t")
    ),
    "a bump": spoilt(
        "more-loss-is-never-more-reward",
        "mapping",
        MAP,
        "bump = (loss > 0.3) & (loss < 0.5)\n" + MAP.replace("n t", "n bump * 0.2 + 0.8 * t"),
    ),
    "takes NaN for no loss": spoilt(
        "what-is-no-number-gets-no-reward", "mapping", MAP, "loss = loss.nan_to_num()\n" + MAP
    ),
    "a reward relative to the batch": spoilt(
        "rows-do-not-depend-on-their-batch",
        "mapping",
        MAP,
        MAP.replace("return", "reward =") + "\nreturn reward / reward.amax()",
    ),
    "forgets its scale": spoilt(
        "release-brings-it-back",
        "mapping",
        'self.scale = tensors["scale"]',
        "self.scale = torch.ones(1)",
    ),
    "a slope of the wrong sign": spoilt(
        "slope-is-that-of-the-reward",
        "mapping",
        "return reward, slope",
        "return reward, -slope",
    ),
    "a formula of another curve": spoilt(
        "formula-is-the-curve",
        "mapping",
        "def reward_and_slope(self, loss):",
        FORMULA % '{"op": "linear", "cap": "scale"}' + "def reward_and_slope(self, loss):",
    ),
    # Schedules
    "a strength above 1": spoilt("strength-lies-in-0-to-1", "schedule", STRENGTH, "return 2 - t"),
    "a strength that swings": spoilt(
        "strength-never-rises-with-time",
        "schedule",
        STRENGTH,
        "return torch.cos(t).square()",
    ),
    "a strength relative to the batch": spoilt(
        "rows-do-not-depend-on-their-batch",
        "schedule",
        STRENGTH,
        "return torch.exp(-t / 100) * (t == t.amin())",
    ),
    # Norms
    "a violation of shape [n, 1]": spoilt(
        "violation-is-a-number-per-state",
        "norm",
        VIOLATION,
        VIOLATION.replace("dim=1", "dim=1, keepdim=True"),
    ),
    "a norm that forbids nothing": spoilt(
        "some-states-are-forbidden-and-some-allowed",
        "norm",
        VIOLATION,
        VIOLATION.replace("self.radius", "1e9"),
    ),
    "violations relative to the batch": spoilt(
        "rows-do-not-depend-on-their-batch",
        "norm",
        VIOLATION,
        VIOLATION.replace("self.mean", "states.mean(dim=0)"),
    ),
    "a formula of another norm": spoilt(
        "formula-is-the-violation",
        "norm",
        "def violation(self, states):",
        FORMULA % '{"op": "support", "boundary": "radius"}' + "def violation(self, states):",
    ),
    "moves the states to the origin": spoilt(
        "states-are-untouched",
        "norm",
        VIOLATION,
        "states -= self.mean\n" + VIOLATION.replace(" - self.mean", ""),
    ),
    "forgets its radius": spoilt(
        "release-brings-it-back",
        "norm",
        '= tensors["mean"], tensors["radius"]',
        '= tensors["mean"], torch.ones(1)',
    ),
    # Auditors
    "another generator each time": spoilt(
        "same-seed-same-findings",
        "auditor",
        GENERATOR,
        "generator = np.random.default_rng()",
    ),
    "seeds the global generator": spoilt(
        "global-randomness-is-untouched",
        "auditor",
        SHARE,
        "torch.manual_seed(target.remaining)\nshare = torch.rand(count, len(target.low))",
    ),
    "draws from NumPy's global generator": spoilt(
        "global-randomness-is-untouched",
        "auditor",
        SHARE,
        SHARE + "\nnp.random.random()",
    ),
    "switches gradients off": spoilt(
        "reward-is-untouched", "auditor", REWARD, "torch.set_grad_enabled(False)\n" + REWARD
    ),
    "asks for whole batches": spoilt(
        "budget-is-kept", "auditor", "min(256, target.remaining)", "256"
    ),
    "squeezes one feature away": spoilt(
        "findings-have-the-right-shape", "auditor", FLUSH, FLUSH + ".squeeze(1)"
    ),
    "goes on until it finds something": spoilt(
        "sound-reward-is-clean",
        "auditor",
        LOOP,
        "corner = target.high[None]\n"
        "if target.reward(corner) > target.floor:\n    yield corner\n    return\n"
        "while True:\n    count = max(1, min(256, target.remaining))",
    ),
    "looks at one half only": spoilt(
        "known-flaws-are-found", "auditor", SHARE, SHARE + "\nshare[:, 0] *= 0.5"
    ),
    "names members and does not lead them": spoilt(
        "members-are-led-within-the-budget",
        "auditor",
        'label: str = option("uniform", help="what the notes call it")',
        'label: str = option("uniform", help="what the notes call it")\n'
        'of: tuple[str, ...] = option((), members=True, help="whom it leads")',
        "options",
    ),
    "surveys what it has chosen": spoilt(
        "surveys-are-uniform",
        "auditor",
        FLUSH,
        FLUSH + "\ntarget.survey(states[reward > target.floor])",
    ),
    "needs some reward above 0": spoilt(
        "bad-rewards-are-survived",
        "auditor",
        SUSPECT,
        SUSPECT + "\nassert len(reward) < 200 or reward.any()",
    ),
    "takes the experts' covariance for invertible": spoilt(
        "awkward-demonstrations-are-survived",
        "auditor",
        GENERATOR,
        "spread = np.atleast_2d(np.cov(target.demonstrations.states.T))\n"
        "np.linalg.cholesky(spread)\n" + GENERATOR,
    ),
    "swallows what the reward raises": spoilt(
        "crash-is-reported",
        "auditor",
        REWARD,
        "try:\n    " + REWARD + "\nexcept Exception:\n    return",
    ),
    "tells another number each time": spoilt(
        "same-seed-same-findings",
        "auditor",
        TOLD,
        '{"reward": highest + np.random.default_rng().random()}',
    ),
    "tells a share of nothing": spoilt(
        "bad-rewards-are-survived",
        "auditor",
        TOLD,
        '{"share": float(reward.mean() / reward.max()) if count > 200 else highest}',
    ),
    "tells a concern of every batch": spoilt(
        "concerns-are-few",
        "auditor",
        SUSPECT,
        SUSPECT + '\nyield Concern("high", "The reward is high.", {"reward": float(reward.max())})',
    ),
    "no budget": spoilt(
        "options-have-a-budget", "auditor", ":AuditorOptions", ":NormOptions", "hooks"
    ),
    # Triages
    "ranks the first ten": spoilt(
        "ranking-is-a-permutation", "triage", 'kind="stable")', 'kind="stable")[:10]'
    ),
    # Refiners
    "proposes nothing": spoilt(
        "flaws-are-closed", "refiner", CORRECTIONS, "return []\n" + CORRECTIONS
    ),
    "kernels too wide": spoilt("known-good-states-are-spared", "refiner", "0.15", "2.0"),
    "changes the reward itself": spoilt(
        "corrections-can-be-taken-back",
        "refiner",
        CORRECTIONS,
        "mapping, before = repair.model.mapping, repair.model.mapping.map\n"
        "mapping.map = lambda loss: (before(loss) - 0.05).clamp(min=0)\n" + CORRECTIONS,
    ),
    "other strengths each time": spoilt(
        "same-seed-same-corrections",
        "refiner",
        "strengths = np.ones(count)",
        "strengths = 1 + np.random.default_rng().random(count)",
    ),
    "needs luck": spoilt(
        "what-it-needs-is-known",
        "refiner",
        "class Refiner(api.Refiner):\n",
        'class Refiner(api.Refiner):\n    needs = frozenset({"luck"})\n\n',
    ),
    "expects too much": spoilt(
        "what-it-expects-comes-true", "refiner", "closes=closed", "closes=4 * closed + 1000"
    ),
    "replaces all that is there": spoilt(
        "what-it-replaces-is-not-missed",
        "refiner",
        CORRECTIONS,
        "there = [c.id for c in repair.model.corrections]\n"
        "if there: return api.Proposal(replaces=there)\n" + CORRECTIONS,
    ),
    # Gates
    "blames a stranger": spoilt(
        "blame-falls-on-the-candidates-own-corrections",
        "gate",
        "blames or None",
        '("somebody-else",)',
    ),
    "refuses everything": spoilt(
        "a-sound-candidate-passes", "gate", "ok = worst <= 0.5", "ok = False"
    ),
    "passes everything": spoilt(
        "a-ruined-candidate-is-refused", "gate", "ok = worst <= 0.5", "ok = True"
    ),
    "rolls a die": spoilt(
        "the-same-candidate-gets-the-same-judgement",
        "gate",
        '{"worst": worst}',
        '{"worst": worst, "die": np.random.default_rng().random()}',
    ),
    # Executors
    "results in the wrong order": spoilt(
        "results-come-in-order-and-crashes-as-results",
        "executor",
        "return results",
        "return results[::-1]",
    ),
    "tries the first item first": spoilt(
        "nothing-to-do-is-nothing-done",
        "executor",
        "results = []",
        "results = []\nassert items[0] is not None",
    ),
    "tells results by the order in which they come": spoilt(
        "each-result-comes-once-with-its-place",
        "executor",
        "def map(self, function, items):",
        "def each(self, function, items):\n"
        "    yield from enumerate(reversed(self.map(function, items)))\n\n"
        "def map(self, function, items):",
    ),
    # Reporters
    "writes into the current folder": spoilt(
        "files-stay-under-the-folder",
        "reporter",
        "return [file]",
        "open('notes.txt', 'w').close()\nreturn [file]",
    ),
}


@contextmanager
def installed(folder: Path, contents: dict[str, str]) -> Iterator[str]:
    named = {f"careful/{name}": text for name, text in contents.items()}
    with fake_dist(folder, "acme-careful", named, module="careful.hooks"):
        yield "acme-careful"


def verdicts(plugin: str) -> dict[str, str]:
    """Return the name of each check that fails or cannot be made -> why."""
    found = {}
    for one in checks(plugin):
        try:
            one()
        except (CheckFailed, NotApplicable) as said:
            found[f"{one} ({type(said).__name__})"] = str(said)
    return found


def failing(found: dict[str, str]) -> set[str]:
    return {name.rpartition(": ")[2].split()[0] for name in found if name.endswith("(CheckFailed)")}


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


# The kit in a test suite: with pytest, with unittest, and its helpers.


def in_a_session(folder: Path, careless: Careless, text: str, *command: str) -> tuple[int, str]:
    """Run a test file in a process of its own, with a careless plugin on its path."""
    path = write_site(folder / "site", careless.files())
    tests = folder / "tests"
    tests.mkdir()
    (tests / "test_acme.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tests,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


def write_site(folder: Path, contents: dict[str, str]) -> Path:
    """Write the plugin as pip would have installed it."""
    folder.mkdir()
    return write_installed(folder, "careful", files=contents)


PYTEST = ("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "error", "test_acme.py")


def test_expected_failures_are_strict_xfails_with_their_reason(tmp_path: Path) -> None:
    text = """
        from iirl_engine.testing import conformance

        KNOWN = {
            "gate good-gate: a-ruined-candidate-is-refused": "it is being rewritten",
            "gate good-gate: a-sound-candidate-passes": "does not come",
        }

        @conformance("careful", expected_failures=KNOWN)
        def test_known(check):
            check()

        @conformance("careful")
        def test_all(check):
            check()
    """
    code, said = in_a_session(tmp_path, CARELESS["passes everything"], text, *PYTEST)
    assert code == 1
    assert "2 failed" in said
    assert "1 xfailed" in said
    lines = said.splitlines()
    ruined, sound = "gate good-gate: a-ruined-candidate-is-refused", "a-sound-candidate-passes"
    (expected,) = (line for line in lines if line.startswith("XFAIL "))
    assert expected == f"XFAIL test_acme.py::test_known[{ruined}] - it is being rewritten"
    strict, unexpected = (line for line in lines if line.startswith("FAILED "))
    assert f"test_known[gate good-gate: {sound}] - [XPASS(strict)] does not come" in strict
    assert f"test_all[{ruined}]" in unexpected
    assert "CheckFailed: a reward that endorses only what is forbidden passes" in said


def test_an_expected_failure_of_no_check_is_an_error_of_use(tmp_path: Path) -> None:
    with (
        installed(tmp_path, files(["gate"])) as plugin,
        pytest.raises(UsageError, match="expected failures of no check") as caught,
    ):
        conformance(plugin, expected_failures={"gate good-gate: no-such-check": "why not"})
    assert caught.value.got == "gate good-gate: no-such-check"


def test_the_kit_works_with_unittest_and_imports_no_pytest(tmp_path: Path) -> None:
    text = """
        import sys
        import unittest

        from iirl_engine.testing import checks

        class Conformance(unittest.TestCase):
            def test_it(self):
                for check in checks("careful"):
                    with self.subTest(str(check)):
                        check()

            def test_pytest_is_not_there(self):
                for check in checks("careful"):
                    str(check)
                self.assertNotIn("pytest", sys.modules)
    """
    careless = CARELESS["passes everything"]
    code, said = in_a_session(tmp_path, careless, text, "-m", "unittest", "test_acme")
    assert code == 1
    assert "FAILED (failures=1)" in said
    assert "FAIL: test_it (test_acme.Conformance.test_it) [gate good-gate: a-ruined-cand" in said


def test_import_of_the_kit_imports_no_pytest() -> None:
    code = (
        "import sys, iirl_engine.testing as kit; [getattr(kit, name) for name in kit.__all__]; "
        "print(sorted({'pytest', 'hypothesis'} & sys.modules.keys()))"
    )
    done = Environment().execute("-c", code)
    assert done.code == 0, done.stderr
    assert done.out == "[]\n"


def test_a_faked_distribution_is_found_and_leaves_nothing_behind(tmp_path: Path) -> None:
    from importlib.metadata import PackageNotFoundError, version

    path, modules = list(sys.path), set(sys.modules)
    with installed(tmp_path, files(["gate"])) as plugin:
        assert version(plugin) == "1.0"
        assert verdicts(plugin) == {}
        assert "careful.strategies" in sys.modules
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if name.startswith("careful")}
    with pytest.raises(PackageNotFoundError):
        version(plugin)
    with pytest.raises(UsageError, match="no such plugin is installed"):
        next(checks(plugin))


def test_a_faked_distribution_is_gone_after_an_error_too(tmp_path: Path) -> None:
    path = list(sys.path)
    with pytest.raises(ZeroDivisionError), installed(tmp_path, files(["gate"])):
        raise ZeroDivisionError
    assert sys.path == path


def test_two_faked_distributions_in_turn_do_not_mix(tmp_path: Path) -> None:
    for name, expected in (("a", set()), ("b", {"a-ruined-candidate-is-refused"})):
        contents = files(["gate"]) if name == "a" else CARELESS["passes everything"].files()
        (tmp_path / name).mkdir()
        with installed(tmp_path / name, contents) as plugin:
            assert failing(verdicts(plugin)) == expected


def test_a_chain_runs_in_one_call(tmp_path: Path) -> None:
    chain = """
        report = []
        [flywheel]
        rounds = 1
        [source]
        use = "good-source"
        [encoder]
        use = "good-encoder"
        [mapping]
        use = "good-mapping"
        [[norm]]
        use = "good-norm"
        [[audit]]
        use = "good-auditor"
        budget = 64
        [[refine]]
        use = "good-refiner"
        [[gate]]
        use = "good-gate"
    """
    path = list(sys.path)
    (tmp_path / "site").mkdir()
    with installed(tmp_path / "site", files(OFFERED)):
        outcome = run_chain(textwrap.dedent(chain), tmp_path)
    assert outcome.run == tmp_path / "run"
    assert [audit.auditor for audit in outcome.rounds[0].audits] == ["good-auditor"]
    assert outcome.rounds[0].audits[0].status in ("clean", "findings")
    assert ("acme-careful", "1.0") in outcome.plugins
    assert sys.path == path


# The kit on the command line.


def test_the_command_passes_the_careful_plugin(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", files(("gate", "triage")))
    done = Environment(path=(site,)).iirl("plugins", "check", "careful")
    assert done.code == 0, done.out + done.stderr
    lines = done.out.splitlines()
    assert lines[0] == "ok     plugin careful: loads"
    assert all(line.startswith("ok ") for line in lines)
    assert "ok     gate good-gate: a-ruined-candidate-is-refused" in lines


def test_the_command_fails_a_careless_plugin_and_says_why(tmp_path: Path) -> None:
    careless = CARELESS["an option that is changed when it is read"]
    site = write_site(tmp_path / "site", careless.files())
    done = Environment(path=(site,)).iirl("plugins", "check", "careful")
    assert done.code == 5
    lines = done.out.splitlines()
    (failed,) = (i for i, line in enumerate(lines) if line.startswith("failed"))
    assert lines[failed] == "failed auditor good-auditor: options-survive-toml"
    assert lines[failed + 1].startswith("       option label became ")
    assert max(map(len, lines)) <= 80


def test_the_command_gives_its_verdicts_as_json(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", CARELESS["a target of another kind"].files())
    done = Environment(path=(site,)).iirl("plugins", "check", "careful", "--json")
    assert done.code == 5
    told = done.json()
    assert (told["plugin"], told["ok"]) == ("careful", False)
    rows = {row["check"]: (row["verdict"], row["reason"]) for row in told["checks"]}
    assert {verdict for verdict, _ in rows.values()} == {"ok", "failed", "skip"}
    assert all(reason == "" for verdict, reason in rows.values() if verdict == "ok")
    verdict, reason = rows["encoder good-encoder: target-is-of-its-kind"]
    assert verdict == "failed"
    assert "is no iirl_engine.api:Encoder" in reason
    skipped = rows["encoder good-encoder: loss-is-differentiable"]
    assert skipped == ("skip", "its target cannot be loaded")
