"""The frozen records that flow between the phases.

Arrays inside records are read-only float64 NumPy arrays. This module imports no array library,
so that hook modules and the command line stay light.
"""

from __future__ import annotations

import functools
import hashlib
import types
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from iirl_engine.evidence import Judgement
    from iirl_engine.mended import Attempt, Conflict, LeftOpen, Prediction
    from iirl_engine.reward import RewardModel
    from iirl_engine.support import Support

    Array = NDArray[np.float64]

Family = Literal["out-of-distribution", "gradient-extrapolation", "adversarial"]
AuditStatus = Literal["clean", "findings", "undecided", "crashed", "over-budget"]


def _closed(array: Array) -> Array:
    array.setflags(write=False)
    return array


def _plain(_: object, __: object, value: Any) -> Any:
    return dict(value) if isinstance(value, types.MappingProxyType) else value


def _is_told(attribute: attrs.Attribute[Any], _: object) -> bool:
    # Whom a gate blames matters while a round lasts.
    return attribute.name != "blames"


@attrs.frozen
class Domain:
    """The box that auditors search: lowest and highest value of each feature."""

    low: tuple[float, ...]
    high: tuple[float, ...]


@attrs.frozen
class NormSpec:
    """A norm that a source brings along, written like a `[[norm]]` table."""

    use: str
    id: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False, slots=False)
class Demonstrations:
    """Expert data, checked by `iirl_engine.demonstrations.check`.

    Parameters
    ----------
    states
        `[n, d]` expert states.
    feature_names
        `d` unique names.
    held_out
        `[m, d]` expert states that nothing is fitted on; may be empty.
    known_good
        `[k, d]` further states whose reward must be kept; may be empty.
    negatives
        `[m, d]` states that are known not to be expert; may be empty.
    t
        `[n]` time of each state, or None.
    episode
        `[n]` integer episode of each state, or None.
    norms
        Norms that the source knows of, such as the walls of a maze.
    domain
        Where auditors may look, when the source knows it.
    origin
        Where the data came from, for reports.
    held_out_episode
        `[m]` episode of each held-out state, or None.
    weights, negative_weights
        `[n]` and `[m]` >= 0: how much each state counts in eq. 2, by the source's judgement; the
        engine multiplies them by the schedule's β. None where all are 1.
    """

    states: Array
    feature_names: tuple[str, ...]
    held_out: Array
    known_good: Array
    negatives: Array
    t: Array | None = None
    episode: NDArray[np.int64] | None = None
    norms: tuple[NormSpec, ...] = ()
    domain: Domain | None = None
    origin: str = ""
    weights: Array | None = None
    negative_weights: Array | None = None
    held_out_episode: NDArray[np.int64] | None = None

    @functools.cached_property
    def support(self) -> Support:
        """Distance to the expert states, indexed on first use and shared by all who ask."""
        from iirl_engine.support import Support

        return Support(self.states)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every array and name, in hex."""
        import numpy as np

        digest = hashlib.sha256(repr(self.feature_names).encode())
        names = (
            "states held_out held_out_episode known_good negatives t episode weights "
            "negative_weights"
        )
        for name in names.split():
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@attrs.frozen(eq=False)
class Suspects:
    """States that an auditor suspects, with the evidence that they are unlike the demonstrations.

    Parameters
    ----------
    states
        `[m, d]`.
    p_values
        `[m]` in [0, 1]: a state that is like the demonstrations would get one at most as small
        with no more than that probability. NaN where an auditor has none.
    method
        How they were computed, in words that follow "p <= 0.01 by", such as "split-conformal".
    """

    states: Tensor
    p_values: Tensor | Array
    method: str


def _unknown(flaws: Flaws) -> Array:
    import numpy as np

    return _closed(np.full(len(flaws.ids), np.nan))


def _unnamed(flaws: Flaws) -> tuple[str, ...]:
    return ("",) * len(flaws.ids)


@attrs.frozen(eq=False)
class Flaws:
    """States that the reward endorses although a norm forbids them, one row each.

    Parameters
    ----------
    ids
        Content hash of each state.
    states
        `[m, d]`.
    rewards
        `[m]` reward when the flaw was found, above the floor.
    violations
        `[m]` how far the worst norm is violated, above 0.
    norms
        Id of that norm.
    auditors
        Id of the auditor that found it first.
    p_values
        `[m]` that auditor's evidence that the state is unlike the demonstrations, see `Suspects`;
        NaN where it gave none.
    methods
        How it came by the p-value; empty where it gave none.
    regions
        Id of the region that each belongs to; empty before they are grouped.
    """

    ids: tuple[str, ...]
    states: Array
    rewards: Array
    violations: Array
    norms: tuple[str, ...]
    auditors: tuple[str, ...]
    p_values: Array = attrs.field(default=attrs.Factory(_unknown, takes_self=True))
    methods: tuple[str, ...] = attrs.field(default=attrs.Factory(_unnamed, takes_self=True))
    regions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Flaws:
        """Return the flaws at these row numbers, in this order."""
        import numpy as np

        index = np.asarray(rows, dtype=np.int64)
        return Flaws(
            ids=tuple(self.ids[i] for i in index),
            states=_closed(self.states[index]),
            rewards=_closed(self.rewards[index]),
            violations=_closed(self.violations[index]),
            norms=tuple(self.norms[i] for i in index),
            auditors=tuple(self.auditors[i] for i in index),
            p_values=_closed(self.p_values[index]),
            methods=tuple(self.methods[i] for i in index),
            regions=tuple(self.regions[i] for i in index) if self.regions else (),
        )


@attrs.frozen(eq=False)
class Released:
    """What a run's knowledge base says of one of its releases.

    Parameters
    ----------
    number
        Of the release.
    round
        The round that made it; 0 for the reward as learned.
    fingerprints
        Part -> SHA-256, see `iirl_engine.formula.Formula.fingerprints`.
    """

    number: int
    round: int
    fingerprints: Mapping[str, str]


@attrs.frozen(eq=False)
class Concern:
    """What an auditor noticed that no norm can decide; it is told and left to a person.

    An auditor gives what is named first; the engine adds who said it and when.

    Parameters
    ----------
    kind
        What it is about, the same for the same observation, in kebab case: `standing-still`.
    text
        One sentence that stands by itself.
    numbers
        Name -> finite number: what the sentence goes by.
    states
        `[m, d]` up to 16 examples; None when it is about no state.
    grave
        Nothing that the reward answers can be relied on until somebody has looked: the round is
        not sound, and its release does not become stable.
    auditor, round
        Id of the auditor, and the round.
    """

    kind: str
    text: str
    numbers: Mapping[str, float] = attrs.field(factory=dict)
    states: Array | None = None
    grave: bool = False
    auditor: str = ""
    round: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl run --json` prints."""
        return {
            "round": self.round,
            "auditor": self.auditor,
            "kind": self.kind,
            "text": self.text,
            "numbers": dict(self.numbers),
            "states": [] if self.states is None else self.states.tolist(),
            "grave": self.grave,
        }


@attrs.frozen(eq=False)
class AuditResult:
    """What one auditor did in one round; a crash is a result, never a clean audit.

    Parameters
    ----------
    states
        `[m, d]` what it suspects.
    probes
        `[p, d]` an even sample of the states whose reward it asked for.
    p_values, methods
        `[m]` the evidence of each suspected state, as in `Flaws`; None and empty where no state
        has any.
    concerns
        What it noticed that no norm can decide.
    draws, flawed
        How many uniform draws of the domain it surveyed, and how many of them are flaws.
    """

    auditor: str
    status: AuditStatus
    states: Array
    queries: int
    seconds: float
    reason: str = ""
    probes: Array | None = None
    p_values: Array | None = None
    methods: tuple[str, ...] = ()
    concerns: tuple[Concern, ...] = ()
    draws: int = 0
    flawed: int = 0


@attrs.frozen
class Region:
    """Confirmed flaws that belong together, see `iirl_engine.regions`.

    Parameters
    ----------
    id
        That of its worst flaw, the one with the highest severity.
    round
        In which its flaws were last grouped.
    flaws
        Ids of its flaws, the worst first.
    open
        How many of them the newest release endorses.
    severity
        Highest product of reward and violation among them.
    center
        `[d]` the worst flaw's state.
    radius
        Largest Euclidean distance of a flaw from the centre.
    low, high
        `[d]` corners of the box that holds every flaw.
    nearest, distance
        `[d]` the expert state nearest to the centre, and how far away it is.
    norms, auditors
        Ids of the norms that forbid its flaws, and of the auditors that found some, sorted.
    """

    id: str
    round: int
    flaws: tuple[str, ...]
    open: int
    severity: float
    center: tuple[float, ...]
    radius: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    nearest: tuple[float, ...]
    distance: float
    norms: tuple[str, ...]
    auditors: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the documented object, with the number of flaws in place of their ids."""
        told = attrs.asdict(self) | {"flaws": len(self.flaws)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in told.items()}


@attrs.frozen
class Remaining:
    """What a round's audits probably left unseen, see `iirl_engine.remaining`.

    Parameters
    ----------
    regions
        Regions that the round's findings lie in.
    findings
        Reports that were confirmed, those of flaws already known among them.
    once, twice
        Regions that one finding lies in, and two.
    expected, low, high
        How many regions audits like these can reach: Chao 1 and its 95 % interval, which has no
        upper end without findings.
    unseen
        Probability that the next finding lies in a new region (Good-Turing).
    draws, flawed
        Uniform draws of the domain, and flaws among them.
    volume
        Share of the domain that is flawed, at most, with a confidence of 95 %; None without draws.
    """

    regions: int
    findings: int
    once: int
    twice: int
    expected: float
    low: float
    high: float | None
    unseen: float
    draws: int
    flawed: int
    volume: float | None


@attrs.frozen
class AuditSummary:
    """One auditor's line in a round: how it ended and what it cost.

    Parameters
    ----------
    evidence
        The weakest evidence, by each method, that what it reported is unlike the demonstrations,
        such as "p <= 0.004 by split-conformal"; empty where it gave none.
    concerns, grave
        How many concerns it has, and how many of them are grave.
    """

    auditor: str
    status: AuditStatus
    found: int
    confirmed: int
    queries: int
    seconds: float
    reason: str = ""
    evidence: str = ""
    concerns: int = 0
    grave: int = 0
    draws: int = 0
    flawed: int = 0


@attrs.frozen
class Round:
    """One turn of the flywheel, in counts.

    Parameters
    ----------
    number
        1 for the first round.
    found
        States that auditors reported.
    confirmed
        Flaws among them that were not known before.
    closed
        Open flaws that this round's release closed.
    open
        Confirmed flaws of the run that the newest release still endorses.
    misses
        Known-good states with a reward below `good_floor` after the round.
    corrections
        Corrections in the newest release.
    queries
        Reward queries of the round, auditors and verification together.
    seconds
        CPU seconds of the round.
    release
        Number of the release that the round made, or None.
    regions, open_regions
        Regions of flaws that the audited reward endorses, and those still open after the round.
    remaining
        What the audits probably left unseen.
    predictions
        What each refiner's proposal was expected to do, and what it did.
    attempts
        The candidates that were judged, in turn.
    conflicts
        Demands that no correction can meet.
    """

    number: int
    found: int
    confirmed: int
    closed: int
    open: int
    misses: int
    corrections: int
    queries: int
    seconds: float
    release: int | None
    audits: tuple[AuditSummary, ...]
    gates: tuple[Judgement, ...]
    vetoes: tuple[str, ...] = ()
    regions: int = 0
    open_regions: int = 0
    remaining: Remaining | None = None
    predictions: tuple[Prediction, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def sound(self) -> bool:
        """True when no audit crashed or overran its budget, and no concern is grave.

        An undecided audit counts: it has searched, like any other, and proved nothing.
        """
        fine = ("clean", "findings", "undecided")
        return all(a.status in fine and not a.grave for a in self.audits)


@attrs.frozen
class Outcome:
    """What a run came to; `iirl run --json` prints it.

    Parameters
    ----------
    demonstrations
        What the norms left of the demonstrations, see `iirl_engine.screening.Screening`.
    concerns
        What auditors noticed in any round that no norm can decide.
    regions
        Of all confirmed flaws; those with open flaws first, then the most severe.
    left_open
        Why flaws stay open: those of the same reason together, the most first.
    """

    run: Path
    release: Path
    rounds: tuple[Round, ...]
    open_flaws: int
    plugins: tuple[tuple[str, str], ...]
    reports: tuple[Path, ...] = ()
    demonstrations: Mapping[str, Any] = attrs.field(factory=dict)
    concerns: tuple[Concern, ...] = ()
    regions: tuple[Region, ...] = ()
    left_open: tuple[LeftOpen, ...] = ()

    @property
    def gates(self) -> tuple[Judgement, ...]:
        """Judgements of the last candidate."""
        return next((r.gates for r in reversed(self.rounds) if r.gates), ())

    @property
    def queries(self) -> int:
        """Reward queries of all rounds."""
        return sum(r.queries for r in self.rounds)

    @property
    def seconds(self) -> float:
        """CPU seconds of all rounds."""
        return sum(r.seconds for r in self.rounds)

    @property
    def ok(self) -> bool:
        """True when no flaw is open, no demand contradicts another, and the last round is in order.

        It neither failed nor refused anything.

        A concern that is not grave does not change it.
        """
        if self.open_flaws:
            return False
        if not self.rounds:
            return True
        last = self.rounds[-1]
        if last.conflicts:
            return False
        return last.sound and not last.vetoes and all(gate.ok for gate in last.gates)

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl run --json` prints."""
        return {
            "run": str(self.run),
            "release": str(self.release),
            "rounds": [
                attrs.asdict(r, filter=_is_told, value_serializer=_plain) for r in self.rounds
            ],
            "gates": [
                {"name": g.gate, "ok": g.ok, "numbers": dict(g.numbers), "reason": g.reason}
                for g in self.gates
            ],
            "open_flaws": self.open_flaws,
            "concerns": [concern.to_json() for concern in self.concerns],
            "regions": [region.to_json() for region in self.regions],
            "left_open": [attrs.asdict(left) for left in self.left_open],
            "demonstrations": dict(self.demonstrations),
            "queries": self.queries,
            "seconds": self.seconds,
            "plugins": [{"dist": dist, "version": version} for dist, version in self.plugins],
            "reports": [str(path) for path in self.reports],
        }


@attrs.frozen(eq=False)
class Report:
    """What a reporter tells of: the outcome, the reward before and after, and the flaws.

    Parameters
    ----------
    before, after
        Release 0 and the newest release.
    flaws
        All confirmed flaws of the run.
    still_open
        `[m]` whether `after` still endorses each of them.
    floor
        Reward above this is an endorsement.
    chain
        The effective chain file.
    """

    outcome: Outcome
    before: RewardModel
    after: RewardModel
    flaws: Flaws
    still_open: NDArray[np.bool_]
    floor: float
    chain: str


@attrs.frozen
class RunStarted:
    """Event of `iirl_run_started`."""

    run: Path
    chain: str
    plugins: tuple[tuple[str, str], ...]
    data: str


@attrs.frozen(eq=False)
class FlawsFound:
    """Event of `iirl_flaws_found`: the new confirmed flaws of a round."""

    run: Path
    round: int
    flaws: Flaws


@attrs.frozen
class RoundFinished:
    """Event of `iirl_round_finished`."""

    run: Path
    round: Round


@attrs.frozen
class ReleaseMade:
    """Event of `iirl_release_made`: `manifest` is the SHA-256 of its manifest."""

    run: Path
    release: Path
    manifest: str
