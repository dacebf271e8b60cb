"""What a policy earns that does nothing, or anything: whether a reward can be had for nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.evaluation.result import PolicyRow, Trivial, TrivialRow
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]

# Nothing is a finite multiple of less.
_NOTHING = float(np.finfo(np.float64).tiny)


def made_up(
    model: RewardModel, starts: Array, experts: Array, *, generator: np.random.Generator
) -> dict[str, float]:
    """Return the mean reward of each trivial policy that needs no recording, see `visited`."""
    states = visited(starts, experts, generator=generator)
    return {name: float(model(some).mean()) for name, some in states.items() if len(some)}


def visited(starts: Array, experts: Array, *, generator: np.random.Generator) -> dict[str, Array]:
    """Return the states `[m, d]` that each trivial policy visits.

    `frozen start` stands still in the state where an episode starts, `constant mean state` in
    the mean of the demonstrations; `shuffled features` visits the demonstrations with each
    column permuted by itself, so that every feature looks right and no state does.

    Parameters
    ----------
    starts
        `[k, d]` states that episodes start in; without any, `frozen start` visits none.
    experts
        `[n, d]` demonstrations.
    generator
        Permutes the columns.
    """
    return {
        "frozen start": starts,
        "constant mean state": experts.mean(axis=0, keepdims=True),
        "shuffled features": generator.permuted(experts, axis=0),
    }


def hackability(synthetic: dict[str, float], rows: Sequence[PolicyRow], expert: float) -> Trivial:
    """Return how trivial policies stand against competent ones.

    Parameters
    ----------
    synthetic
        Name -> mean reward of the trivial policies that are made up.
    rows
        The recorded policies; of these, the trivial ones join unless they are competent.
    expert
        Mean reward of the demonstrations.
    """
    recorded = {row.name: row.learned_reward for row in rows if row.trivial and not row.competent}
    earned = [*synthetic.items(), *recorded.items()]
    trivial = tuple(
        TrivialRow(name, reward, reward / expert if expert > _NOTHING else None)
        for name, reward in earned
    )
    competent = [row.learned_reward for row in rows if row.competent]
    if not competent:
        return Trivial(trivial, below_competent=None, margin=None)
    margin = min(competent) - max(reward for _, reward in earned)
    return Trivial(trivial, below_competent=margin > 0, margin=margin)


def with_competence(policies: Sequence[PolicyRow]) -> tuple[PolicyRow, ...]:
    """Return rows that say who is competent: true return at least half way to the best.

    Nobody is known to be when fewer than two true returns are known or all are the same.
    """
    returns = [row.true_return for row in policies if row.true_return is not None]
    if not returns or min(returns) == max(returns):
        return tuple(policies)
    half_way = min(returns) / 2 + max(returns) / 2
    return tuple(
        row if row.true_return is None else attrs.evolve(row, competent=row.true_return >= half_way)
        for row in policies
    )
