"""What an auditor sees of a reward, with every reward query counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.api import Autoencoders, Encoder
from iirl_engine.corrections.base import Correction
from iirl_engine.formula import Formula, formula_of
from iirl_engine.gradient import value_and_gradient
from iirl_engine.records import Demonstrations, Released
from iirl_engine.regions import region_scale
from iirl_engine.reward import RewardModel
from iirl_engine.uncertainty import Sample


class BudgetExceeded(RuntimeError):
    """An auditor asked for more reward queries than it has left."""


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
        return self._model.log_reward(states)

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
