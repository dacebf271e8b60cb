"""Whether a candidate may be released: what each gate says of it, and who vetoes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from iirl_engine.api import Context
from iirl_engine.chain import Step
from iirl_engine.errors import told
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.plugins import Plugins


def judgements(
    gates: Sequence[tuple[Step, Any]],
    candidate: Candidate,
    evidence: Evidence,
    seed: int,
    log: Callable[[str], None],
) -> Iterator[Judgement]:
    """Ask every gate; one that raises or answers with NaN refuses, and `log` is told."""
    for step, gate in gates:
        try:
            said = gate.judge(candidate, evidence, Context("gate", step.id, seed, candidate.round))
            yield plain_judgement(step.id, said)
        except (Exception, SystemExit) as error:
            reason = f"raised {told(error)}"
            log(f"gate {step.id} {reason}")
            yield Judgement(step.id, False, {}, reason, blames=())


def vetoes(
    plugins: Plugins, candidate: Candidate, evidence: Evidence, log: Callable[[str], None]
) -> tuple[str, ...]:
    """Ask every `iirl_veto`; one that raises, or gives no text for a reason, vetoes."""
    reasons = []
    for dist, ask in plugins.implementations("iirl_veto"):
        try:
            answer = ask(candidate=candidate, evidence=evidence)
        except Exception as error:
            answer = f"raised {told(error)}"
        if answer is not None:
            said = answer if isinstance(answer, str) else f"answered {answer!r}, no text"
            reasons.append(f"{dist}: {said}")
            log(f"vetoed by {reasons[-1]}")
    return tuple(reasons)


def plain_judgement(name: str, said: Judgement) -> Judgement:
    """Return what a gate said; what is no clear yes, or holds NaN, is a refusal."""
    if not isinstance(said.ok, bool | np.bool_):
        raise TypeError(f"answered {said.ok!r}, neither True nor False")
    numbers = {str(key): float(value) for key, value in said.numbers.items()}
    if not all(map(math.isfinite, numbers.values())):
        return Judgement(name, False, {}, "a number is not finite")
    blames = None if said.blames is None else tuple(map(str, said.blames))
    return Judgement(name, bool(said.ok), numbers, str(said.reason), blames)
