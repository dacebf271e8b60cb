"""What an auditor sees of a reward, how one audit is run, and what of its findings holds."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.api import Auditor, Autoencoders, Context, Encoder
from iirl_engine.corrections.base import Correction
from iirl_engine.demonstrations import read_only
from iirl_engine.errors import told
from iirl_engine.formula import Formula, formula_of
from iirl_engine.records import (
    AuditResult,
    AuditStatus,
    Concern,
    Demonstrations,
    Flaws,
    Released,
    Suspects,
)
from iirl_engine.regions import region_scale
from iirl_engine.reward import RewardModel, value_and_gradient
from iirl_engine.uncertainty import Sample

# States that a concern keeps, at most.
_EXAMPLES = 16


class BudgetExceeded(RuntimeError):
    """An auditor asked for more reward queries than it has left."""


class Undecided(RuntimeError):
    """An auditor that proves what it finds ended before its proof did."""


class Target:
    """A reward under audit: values, gradients and norms, with every reward query counted.

    A value costs one query per state, a value with its gradient two; coding with an autoencoder of
    the encoder costs half a query, and so does decoding. Norms and the list of corrections cost
    nothing. A call that would exceed the budget raises `BudgetExceeded` and evaluates nothing.

    Parameters
    ----------
    model
        The reward.
    floor
        Reward above this is an endorsement.
    budget
        Reward queries that may be spent.
    history
        What is on record of the reward's release and those before.
    """

    def __init__(
        self, model: RewardModel, floor: float, budget: int, history: Sequence[Released] = ()
    ) -> None:
        self._model = model
        self._history = tuple(history)
        self.floor = floor
        self.budget = budget
        self.queries = 0
        self.draws = 0
        self.flawed = 0
        self._probes = Sample(model.width)

    @property
    def probes(self) -> NDArray[np.float64]:
        """`[p, d]` an even sample of the states whose reward was asked for."""
        return self._probes.rows()

    @property
    def remaining(self) -> int:
        """Queries left."""
        return self.budget - self.queries

    @property
    def demonstrations(self) -> Demonstrations:
        """What the reward was learned from."""
        return self._model.demonstrations

    @property
    def low(self) -> Tensor:
        """`[d]` lowest corner of the domain."""
        return torch.tensor(self._model.domain.low, dtype=torch.float64)

    @property
    def high(self) -> Tensor:
        """`[d]` highest corner of the domain."""
        return torch.tensor(self._model.domain.high, dtype=torch.float64)

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """The corrections of the reward, in the order they were added."""
        return self._model.corrections

    @property
    def history(self) -> tuple[Released, ...]:
        """What is on record of the reward's release and those before; empty without a record."""
        return self._history

    def autoencoders(self) -> Autoencoders | None:
        """Return the encoder's autoencoder experts, if it has any; each pass of a state is billed.

        Coding states costs half a query each, rounded up, and so does decoding codes: a forward
        pass through one autoencoder is billed like one through the whole reward.
        """
        inner = self._model.encoder.autoencoders()
        return None if inner is None else _Billed(inner, self._spend)

    def reward(self, states: Tensor) -> Tensor:
        """Return the reward `[n]` of states `[n, d]`; costs n queries."""
        self._spend(len(states), states)
        with torch.no_grad():
            return self._model.reward(states)

    def reward_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reward `[n]` and its gradient `[n, d]`; costs 2 n queries."""
        self._spend(2 * len(states), states)
        return self._model.reward_and_gradient(states)

    def log_reward(self, states: Tensor) -> Tensor:
        """Return log R `[n]` of states `[n, d]`, see `log_reward_and_gradient`; costs n queries."""
        self._spend(len(states), states)
        return self._model.log_reward_and_gradient(states)[0]

    def log_reward_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return log R `[n]` of states `[n, d]` and its gradient `[n, d]`; costs 2 n queries.

        Where R underflows to 0, far from support, log R goes on falling with the loss, so that a
        search has a direction from anywhere.
        """
        self._spend(2 * len(states), states)
        return self._model.log_reward_and_gradient(states)

    def survey(self, draws: Tensor) -> Tensor:
        """Return the flaws `[m, d]` among uniform draws `[n, d]` of the domain.

        Only for states drawn uniformly and chosen by nothing: the share of flaws among them
        tells how much of the domain is flawed. A draw that the norms allow, or where a
        correction leaves no reward for certain, is no flaw and costs nothing; any other costs a
        query. When the budget ends, the later draws are left out.

        Raises
        ------
        ValueError
            When a draw lies outside the domain.
        """
        if not ((draws >= self.low) & (draws <= self.high)).all():
            raise ValueError("a survey's draws must lie in the domain")
        possible = (self.violation(draws) > 0) & ~self.silenced(draws)
        within = possible.cumsum(dim=0) <= self.remaining
        draws, possible = draws[within], possible[within]
        asked = draws[possible]
        flaws = asked[self.reward(asked) > self.floor] if len(asked) else asked
        self.draws += len(draws)
        self.flawed += len(flaws)
        return flaws

    def silenced(self, states: Tensor) -> Tensor:
        """Return where a correction leaves no reward for certain, `[n]`; free."""
        with torch.no_grad():
            return self._model.silenced(states)

    def violation(self, states: Tensor) -> Tensor:
        """Return the violation `[n]` of the worst norm: above 0 where forbidden; free."""
        with torch.no_grad():
            return self._model.violation(states)

    def violations(self, states: Tensor) -> dict[str, Tensor]:
        """Return the violation `[n]` of each norm, by its id; free."""
        with torch.no_grad():
            return self._model.violations(states)

    def violation_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the violation `[n]` of the worst norm and its gradient `[n, d]`; free."""
        return value_and_gradient(self._model.violation, states)

    def formula(self) -> Formula:
        """Return the reward as plain data, for bounds over boxes; free, but see `spend`."""
        return formula_of(self._model)

    def spend(self, count: int) -> None:
        """Pay for work inside the model: a bound of the reward over a box costs one query."""
        self._spend(count)

    @property
    def scale(self) -> float:
        """How far apart two states may lie and still count as near, see `iirl_engine.regions`."""
        return region_scale(self._model)

    @property
    def uncertainty_price(self) -> int:
        """Queries that the uncertainty of a state costs: 1 where the encoder measures its own."""
        return int(type(self._model.encoder).uncertainty is not Encoder.uncertainty)

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return how little the reward can be relied on, `[n]` in [0, 1]; see the price."""
        self._spend(self.uncertainty_price * len(states))
        return self._model.uncertainty(states)

    def coverage(self, states: Tensor) -> Tensor:
        """Return how thoroughly audits, this one included, probed the surroundings; free.

        `[n]` in [0, 1], see `iirl_engine.uncertainty`.
        """
        probes = np.concatenate([self._model.probes, self.probes])
        with torch.no_grad():
            return self._model.evolve(probes=probes).coverage(states)

    def part(
        self, budget: int, low: Tensor | None = None, high: Tensor | None = None
    ) -> PartOfTarget:
        """Return the same target with a share of the budget, for an auditor that this one leads.

        Parameters
        ----------
        budget
            Queries that may be spent on it, at most those left here; they are billed here too.
        low, high
            `[d]` corners of a part of the domain, for its own; None for the whole.
        """
        return PartOfTarget(self, budget, low, high)

    def _spend(self, count: int, states: Tensor | None = None) -> None:
        if count > self.remaining:
            raise BudgetExceeded(f"asked for {count} queries with {self.remaining} left")
        self.queries += count
        if states is not None:
            self._probes.add(states)


class PartOfTarget(Target):
    """A share of a target's budget, and maybe a part of its domain; it knows the flaws it saw."""

    def __init__(self, whole: Target, budget: int, low: Tensor | None, high: Tensor | None) -> None:
        budget = min(budget, whole.remaining)
        super().__init__(whole._model, whole.floor, budget, whole.history)
        self._whole = whole
        self._low, self._high = low, high
        self._flaws: list[Tensor] = []

    @property
    def low(self) -> Tensor:
        return self._whole.low if self._low is None else self._low.clone()

    @property
    def high(self) -> Tensor:
        return self._whole.high if self._high is None else self._high.clone()

    @property
    def remaining(self) -> int:
        return min(self.budget - self.queries, self._whole.remaining)

    @property
    def flaws(self) -> Tensor:
        """`[m, d]` the flaws among the states whose reward was asked for."""
        none = torch.empty((0, self._model.width), dtype=torch.float64)
        return torch.cat([none, *self._flaws])

    def reward(self, states: Tensor) -> Tensor:
        reward = super().reward(states)
        self._watch(states, reward)
        return reward

    def reward_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        reward, gradient = super().reward_and_gradient(states)
        self._watch(states, reward)
        return reward, gradient

    def survey(self, draws: Tensor) -> Tensor:
        before = self.draws, self.flawed
        flaws = super().survey(draws)
        # Draws from a part of the domain say nothing of the whole.
        if self._low is None and self._high is None:
            self._whole.draws += self.draws - before[0]
            self._whole.flawed += self.flawed - before[1]
        return flaws

    def _watch(self, states: Tensor, reward: Tensor) -> None:
        endorsed = states.detach()[reward > self.floor]
        if len(endorsed):
            self._flaws.append(endorsed[self.violation(endorsed) > 0].clone())

    def _spend(self, count: int, states: Tensor | None = None) -> None:
        super()._spend(count, states)
        self._whole._spend(count, states)


class _Billed(Autoencoders):
    """Autoencoders whose every pass is paid for."""

    def __init__(self, inner: Autoencoders, spend: Callable[[int], None]) -> None:
        self._inner, self._spend = inner, spend

    @property
    def count(self) -> int:
        return self._inner.count

    def code(self, states: Tensor, expert: int) -> Tensor:
        self._spend((len(states) + 1) // 2)
        with torch.no_grad():
            return self._inner.code(states, expert)

    def decode(self, code: Tensor, expert: int) -> Tensor:
        self._spend((len(code) + 1) // 2)
        with torch.no_grad():
            return self._inner.decode(code, expert)


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
        found: list[_Reported] = []
        concerns: list[Concern] = []
        status: AuditStatus = "clean"
        reason = ""
        started = time.process_time()
        try:
            for states in self.auditor.audit(target, self.context):
                if isinstance(states, Concern):
                    concerns.append(_told_by(self.context, states, width))
                    continue
                found.append(_reported(states, width))
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


@attrs.frozen(eq=False)
class _Reported:
    """A copy of what an auditor yields, which may use its tensors again."""

    states: Tensor
    p_values: NDArray[np.float64]
    method: str


def _reported(yielded: Any, width: int) -> _Reported:
    if not isinstance(yielded, Suspects):
        states = _states(yielded, width)
        return _Reported(states, np.full(len(states), np.nan), "")
    states, method = _states(yielded.states, width), yielded.method
    given = yielded.p_values
    p_values = np.array(
        given.detach().cpu().numpy() if isinstance(given, Tensor) else given, dtype=np.float64
    )
    if p_values.shape != (len(states),) or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"yielded {len(states)} states whose p-values are not one in [0, 1] each")
    if not isinstance(method, str) or not method:
        raise ValueError(f"yielded p-values of the method {method!r}, which says nothing")
    return _Reported(states, p_values, method)


def _states(states: Any, width: int) -> Tensor:
    if not isinstance(states, Tensor) or states.dtype == torch.bool or states.is_complex():
        kind = states.dtype if isinstance(states, Tensor) else type(states).__name__
        raise TypeError(f"yielded {kind}, no tensor of numbers")
    if states.ndim != 2 or states.shape[1] != width:
        raise ValueError(f"yielded shape {list(states.shape)}, not [m, {width}]")
    return states.detach().to("cpu", torch.float64, copy=True)


def _told_by(context: Context, said: Concern, width: int) -> Concern:
    """Return a concern as it is kept: checked, in plain types, and with its origin.

    Raises
    ------
    TypeError, ValueError
        When it cannot be kept, shown or written as JSON.
    """
    if not (isinstance(said.kind, str) and re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", said.kind)):
        raise ValueError(f"yielded a concern of kind {said.kind!r}, no words-in-kebab-case")
    if not (isinstance(said.text, str) and said.text.strip()):
        raise ValueError(f"yielded a concern {said.kind!r} without a text")
    numbers = {str(name): float(value) for name, value in said.numbers.items()}
    if unknown := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(
            f"yielded a concern {said.kind!r} whose number {unknown[0]!r} is not finite"
        )
    states = torch.empty((0, width)) if said.states is None else torch.as_tensor(said.states)
    states = _states(states, width)[:_EXAMPLES]
    if not torch.isfinite(states).all():
        raise ValueError(f"yielded a concern {said.kind!r} whose states hold NaN or Inf")
    return Concern(
        said.kind,
        said.text,
        numbers,
        read_only(states.numpy()),
        bool(said.grave),
        context.id,
        context.round,
    )
