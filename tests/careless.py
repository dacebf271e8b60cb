"""Every way in which a plugin that looks like the careful one may be careless."""

from __future__ import annotations

import attrs

from tests.careful_plugin import files


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
