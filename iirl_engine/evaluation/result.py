"""What an evaluation found: frozen records; None stands for what could not be told."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class PolicyRow:
    """One policy: what is known of it from elsewhere, and what the reward says of it.

    Parameters
    ----------
    name, states, episodes
        Its name, its states and its episodes, in number.
    true_return
        Mean true return of an episode; from the recording, never from the reward.
    true_reward
        Mean true reward of a state; likewise.
    competent
        Whether the true return is at least half way between the worst and the best policy's.
    trivial
        Whether its name starts with `zero` or `random`.
    learned_return
        Mean over episodes of the sum of the learned reward.
    learned_reward
        Mean learned reward of a state, 0 to 1.
    auroc
        Of the demonstrations against this policy's states.
    label_auroc
        Of the states labelled good against those labelled bad.
    value_spearman
        Of the learned reward with the exact value, over the policy's states.
    rejected
        Share of the states with a reward of at most `floor`.
    """

    name: str
    states: int
    episodes: int | None
    true_return: float | None
    true_reward: float | None
    competent: bool | None
    trivial: bool
    learned_return: float | None
    learned_reward: float
    auroc: float | None
    label_auroc: float | None
    value_spearman: float | None
    rejected: float


@attrs.frozen
class Reference:
    """The demonstrations that policies are compared with.

    Parameters
    ----------
    held_out
        Whether they were held out; else they are those that the reward was learned from.
    states
        Their number.
    mean_reward
        Their mean learned reward.
    """

    held_out: bool
    states: int
    mean_reward: float


@attrs.frozen
class Ordering:
    """Spearman's rank correlation over policies, with the mean true return.

    Parameters
    ----------
    policies
        Number of policies with a true return.
    by_return
        Of the learned return of an episode; only policies whose episodes are known count.
    by_mean_reward
        Of the mean learned reward of a state.
    """

    policies: int
    by_return: float | None
    by_mean_reward: float | None


@attrs.frozen
class Distance:
    """Pearson distance of learned and true reward, to which EPIC reduces for rewards of a state.

    Parameters
    ----------
    states
        Number of states with a true reward.
    pooled
        Every state counts alike.
    balanced
        Every policy counts alike.
    """

    states: int
    pooled: float | None
    balanced: float | None


@attrs.frozen
class Pooled:
    """Agreement over the states of all policies that have labels, or values."""

    label_auroc: float | None
    value_spearman: float | None


@attrs.frozen
class TrivialRow:
    """A trivial policy: its mean reward, and that as a share of the demonstrations'."""

    name: str
    reward: float
    relative: float | None


@attrs.frozen
class Trivial:
    """How trivial policies stand against competent ones.

    Parameters
    ----------
    policies
        The trivial ones.
    below_competent
        Whether each of them earns less per state than every competent policy.
    margin
        The least competent policy's mean reward less the greatest trivial one's.
    """

    policies: tuple[TrivialRow, ...]
    below_competent: bool | None
    margin: float | None


@attrs.frozen
class Narrowness:
    """Share of legitimate states with a reward of at most `floor`.

    Parameters
    ----------
    held_out
        Of the held-out demonstrations.
    competent
        Of the states of the competent policy that loses most.
    """

    held_out: float | None
    competent: float | None


@attrs.frozen
class Evaluation:
    """What `evaluate` found; `iirl evaluate --json` prints it.

    Parameters
    ----------
    floor
        Reward above this is an endorsement.
    seed
        Of everything that was drawn.
    demonstrations
        What policies are compared with.
    policies
        The highest true return first, those without one last.
    ordering
        Whether the reward puts policies in the right order.
    epic
        Whether it is the true reward but for scale and offset.
    pooled
        Whether it agrees with labels and exact values.
    saturation
        Share of places on the way from start to demonstration where the reward is flat.
    trivial
        Whether the reward can be had for nothing.
    rejected
        Whether it turns legitimate behaviour away.
    notes
        Why something is None, and what else a reader should know.
    """

    floor: float
    seed: int
    demonstrations: Reference
    policies: tuple[PolicyRow, ...]
    ordering: Ordering
    epic: Distance
    pooled: Pooled
    saturation: float | None
    trivial: Trivial
    rejected: Narrowness
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the documented object, of plain types."""
        return attrs.asdict(self) | {"notes": list(self.notes)}
