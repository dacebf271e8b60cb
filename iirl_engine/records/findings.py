"""What auditors report: states they suspect, the flaws among them, and concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

Family = Literal["out-of-distribution", "gradient-extrapolation", "adversarial"]
AuditStatus = Literal["clean", "findings", "undecided", "crashed", "over-budget"]


def _closed(array: Array) -> Array:
    array.setflags(write=False)
    return array


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
