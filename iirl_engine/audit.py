"""How one audit is run, and what of its findings holds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Auditor, Context
from iirl_engine.demonstrations import read_only
from iirl_engine.errors import told
from iirl_engine.records import AuditResult, AuditStatus, Concern, Flaws, Released
from iirl_engine.reported import Reported, kept_concern, reported
from iirl_engine.reward import RewardModel
from iirl_engine.target import BudgetExceeded, Target


class Undecided(RuntimeError):
    """An auditor that proves what it finds ended before its proof did."""


@attrs.frozen(eq=False)
class AuditJob:
    """One auditor's work in one round."""

    auditor: Auditor[object]
    model: RewardModel
    floor: float
    context: Context
    history: tuple[Released, ...] = ()

    def run(self) -> AuditResult:
        """Run the auditor; whatever goes wrong in it is part of the result."""
        budget: int = self.auditor.options.budget  # type: ignore[attr-defined]
        target = Target(self.model, self.floor, budget, self.history)
        width = self.model.width
        found: list[Reported] = []
        concerns: list[Concern] = []
        status: AuditStatus = "clean"
        reason = ""
        started = time.process_time()
        try:
            for states in self.auditor.audit(target, self.context):
                if isinstance(states, Concern):
                    concerns.append(kept_concern(self.context, states, width))
                    continue
                found.append(reported(states, width))
                if not torch.isfinite(found[-1].states).all():
                    raise ValueError("yielded states that hold NaN or Inf")
        except BudgetExceeded as error:
            status, reason = "over-budget", str(error)
        except Undecided as error:
            status, reason = "undecided", str(error)
        except (Exception, SystemExit) as error:
            status, reason = "crashed", told(error)
        empty = torch.empty((0, width), dtype=torch.float64)
        states = torch.cat([empty, *(batch.states for batch in found)])
        methods = tuple(name for batch in found for name in (batch.method,) * len(batch.states))
        if len(states) and status in ("clean", "undecided"):
            status = "findings"
        return AuditResult(
            auditor=self.context.id,
            status=status,
            states=np.ascontiguousarray(states.numpy()),
            queries=target.queries,
            seconds=time.process_time() - started,
            reason=reason,
            probes=target.probes,
            p_values=np.concatenate([b.p_values for b in found]) if any(methods) else None,
            methods=methods if any(methods) else (),
            concerns=tuple(concerns),
            draws=target.draws,
            flawed=target.flawed,
        )


@attrs.frozen(eq=False)
class Verified:
    """What became of one audit: flaws not known before, and whether there was any flaw at all.

    Parameters
    ----------
    result
        As the auditor left it, its status settled by the verification.
    new
        Confirmed flaws that neither an earlier round nor an earlier auditor found.
    confirmed
        Id of the flaw of each report that holds, known before or not.
    """

    result: AuditResult
    new: Flaws
    confirmed: tuple[str, ...] = ()


def verify(
    results: Sequence[AuditResult], model: RewardModel, floor: float, known: Collection[str]
) -> list[Verified]:
    """Keep of what auditors report the states that are endorsed and forbidden, once each.

    Parameters
    ----------
    results
        In the order of the chain: the first auditor to report a flaw has found it.
    model, floor
        The audited reward; above the floor it endorses.
    known
        Ids of flaws found in earlier rounds.
    """
    seen = set(known)
    verified = []
    for result in results:
        flaws = _confirmed(result, model, floor)
        rows = []
        for row, flaw in enumerate(flaws.ids):
            if flaw not in seen:
                rows.append(row)
                seen.add(flaw)
        if result.status in ("clean", "findings", "undecided"):
            # A reason is what an auditor gives that came to no end.
            none: AuditStatus = "undecided" if result.reason else "clean"
            result = attrs.evolve(result, status="findings" if len(flaws) else none)
        verified.append(Verified(result, flaws.take(rows), flaws.ids))
    return verified


def _confirmed(result: AuditResult, model: RewardModel, floor: float) -> Flaws:
    states = result.states
    if not len(states):
        return no_flaws(model.width)
    rewards = model(states)
    with torch.no_grad():
        by_norm = model.violations(torch.tensor(states))
    names = tuple(by_norm)
    table = torch.stack(list(by_norm.values())).numpy()
    violations, worst = table.max(axis=0), table.argmax(axis=0)
    endorsed = np.isfinite(states).all(axis=1) & (rewards > floor)
    rows = np.flatnonzero(endorsed & (violations > 0))
    found: dict[str, Any] = {}
    if result.p_values is not None:
        found["p_values"] = read_only(result.p_values[rows])
        found["methods"] = tuple(result.methods[row] for row in rows)
    return Flaws(
        ids=flaw_ids(states[rows]),
        states=read_only(states[rows]),
        rewards=read_only(rewards[rows]),
        violations=read_only(violations[rows]),
        norms=tuple(names[worst[row]] for row in rows),
        auditors=(result.auditor,) * len(rows),
        **found,
    )


def evidence(result: AuditResult) -> str:
    """Return the largest p-value of what was reported, by each method, in words."""
    if result.p_values is None:
        return ""
    methods = np.array(result.methods)
    return "; ".join(
        f"p <= {result.p_values[methods == name].max():.2g} by {name}"
        for name in dict.fromkeys(result.methods)
        if name
    )


def flaw_ids(states: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the content hash of each state `[m, d]`: 16 hex digits of SHA-256."""
    rows = np.ascontiguousarray(states, dtype=np.float64) + 0.0  # -0.0 and 0.0 are one state
    return tuple(hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows)


def no_flaws(width: int) -> Flaws:
    """Return an empty batch of flaws with `width` features."""
    empty = read_only(np.empty(0))
    return Flaws((), read_only(np.empty((0, width))), empty, empty, (), ())


def run_audit(job: AuditJob) -> AuditResult:
    """Run one job; a function of its own so that executors can ship it to other processes."""
    return job.run()
