"""Whether a reward orders policies, can be learned from, and can be had for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from iirl_engine.demonstrations import episode_starts
from iirl_engine.errors import DataError, UsageError
from iirl_engine.evaluation import notes
from iirl_engine.evaluation.agreement import auroc, pearson_distance, spearman
from iirl_engine.evaluation.policies import Policy
from iirl_engine.evaluation.result import (
    Distance,
    Evaluation,
    Narrowness,
    Ordering,
    PolicyRow,
    Pooled,
    Reference,
)
from iirl_engine.evaluation.saturation import saturation
from iirl_engine.evaluation.trivial import hackability, made_up, with_competence
from iirl_engine.reward import RewardModel

Array = NDArray[np.float64]


def evaluate(
    model: RewardModel, policies: Sequence[Policy], *, floor: float = 0.01, seed: int = 0
) -> Evaluation:
    """Judge a reward by recordings of policies, beside what is known of them from elsewhere.

    AUROC tells demonstrations from other states; a reward can be near 1 there and still order
    policies wrongly, be flat where a learner starts, or pay for standing still. So each of these
    is measured by itself. What cannot be told is None, and a note says why.

    Parameters
    ----------
    model
        The reward at full strength, R(s).
    policies
        Recordings, see `read_policies`.
    floor
        Reward above this is an endorsement.
    seed
        Of what is drawn: places for the saturation, and the shuffled features.

    Raises
    ------
    UsageError
        When there is no policy, or two have the same name.
    DataError
        When a policy's states have another width than the reward's.
    """
    _check(model, policies)
    data = model.demonstrations
    held_out = len(data.held_out) > 0
    experts = data.held_out if held_out else data.states
    expert = np.asarray(model(experts))
    learned = {policy.name: np.asarray(model(policy.states)) for policy in policies}
    measured = [_row(policy, learned[policy.name], expert, floor) for policy in policies]
    rows = tuple(sorted(with_competence(measured), key=_best_first))
    reference = Reference(held_out, len(experts), float(expert.mean()))
    ordering, epic = _ordering(rows), _distance(policies, learned)
    starts = _starts(model, policies)
    share = None
    if len(starts):
        share = saturation(model, starts, generator=np.random.default_rng([seed, 0]))
    made = made_up(model, starts, experts, generator=np.random.default_rng([seed, 1]))
    trivial = hackability(made, rows, reference.mean_reward)
    return Evaluation(
        floor=floor,
        seed=seed,
        demonstrations=reference,
        policies=rows,
        ordering=ordering,
        epic=epic,
        pooled=_pooled(policies, learned),
        saturation=share,
        trivial=trivial,
        rejected=Narrowness(
            held_out=float((expert <= floor).mean()) if held_out else None,
            competent=max((row.rejected for row in rows if row.competent), default=None),
        ),
        notes=(
            *notes.missing(policies),
            *notes.unsure_reference(reference),
            *notes.undefined(policies, rows, ordering, epic),
            *notes.climbing(len(starts), share),
            *notes.comparison(rows, trivial),
        ),
    )


def _check(model: RewardModel, policies: Sequence[Policy]) -> None:
    if not policies:
        raise UsageError("there is no policy to judge the reward by")
    names = [policy.name for policy in policies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError("every policy needs a name of its own", got=", ".join(twice))
    for policy in policies:
        if policy.states.shape[1] != model.width:
            raise DataError(
                "states must have as many features as the reward",
                where=policy.name,
                got=f"{policy.states.shape[1]} features, the reward has {model.width}",
            )


def _row(policy: Policy, learned: Array, expert: Array, floor: float) -> PolicyRow:
    per_episode = policy.per_episode(learned)
    return PolicyRow(
        name=policy.name,
        states=len(policy.states),
        episodes=policy.episodes,
        true_return=policy.true_return,
        true_reward=policy.true_reward,
        competent=None,
        trivial=policy.trivial,
        learned_return=None if per_episode is None else float(per_episode.mean()),
        learned_reward=float(learned.mean()),
        auroc=auroc(expert, learned),
        label_auroc=_label_auroc(policy.label, learned),
        value_spearman=None if policy.value is None else spearman(learned, policy.value),
        rejected=float((learned <= floor).mean()),
    )


def _best_first(row: PolicyRow) -> tuple[bool, float, str]:
    return row.true_return is None, -(row.true_return or 0.0), row.name


def _label_auroc(label: Array | None, learned: Array) -> float | None:
    return None if label is None else auroc(learned[label == 0], learned[label == 1])


def _starts(model: RewardModel, policies: Sequence[Policy]) -> Array:
    """Return the first states `[k, d]` of all episodes, else of the demonstrations' episodes."""
    starts = np.concatenate([policy.starts for policy in policies])
    return starts if len(starts) else episode_starts(model.demonstrations)


def _ordering(rows: Sequence[PolicyRow]) -> Ordering:
    known = [(row, row.true_return) for row in rows if row.true_return is not None]
    whole = [(row.learned_return, true) for row, true in known if row.learned_return is not None]
    return Ordering(
        policies=len(known),
        by_return=_spearman(whole),
        by_mean_reward=_spearman([(row.learned_reward, true) for row, true in known]),
    )


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    return spearman([learned for learned, _ in pairs], [true for _, true in pairs])


def _distance(policies: Sequence[Policy], learned: dict[str, Array]) -> Distance:
    known = [(learned[p.name], p.reward) for p in policies if p.reward is not None]
    ours, true = _joined(mine for mine, _ in known), _joined(truth for _, truth in known)
    weights = _joined(np.full(len(truth), 1 / len(truth)) for _, truth in known)
    return Distance(
        states=len(true),
        pooled=pearson_distance(ours, true),
        balanced=pearson_distance(ours, true, weights=weights),
    )


def _pooled(policies: Sequence[Policy], learned: dict[str, Array]) -> Pooled:
    labelled = [(learned[p.name], p.label) for p in policies if p.label is not None]
    valued = [(learned[p.name], p.value) for p in policies if p.value is not None]
    label = _joined(label for _, label in labelled)
    return Pooled(
        label_auroc=_label_auroc(label, _joined(mine for mine, _ in labelled)),
        value_spearman=spearman(
            _joined(mine for mine, _ in valued), _joined(value for _, value in valued)
        ),
    )


def _joined(columns: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0), *columns])
