"""The gate `ordering`: the reward goes on ordering graded policies as their true returns do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import OrderingOptions
from iirl_engine.errors import DataError
from iirl_engine.evaluation.agreement import spearman
from iirl_engine.evaluation.policies import Policy, read_policies, read_policy
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.reward import RewardModel


class Ordering(Gate[OrderingOptions]):
    """Refuses a candidate that orders graded policies worse than release 0 did.

    The measure is Spearman's rank correlation of the learned return with the true one: of the
    policies of a folder, or of the episodes of one file. What can no longer be told, because the
    reward has become the same for all, is a refusal.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        policies = graded(Path(self.options.path), candidate.model.width)
        true = [true for _, true in policies]
        before, now, after = (
            spearman([_learned(model, policy) for policy, _ in policies], true)
            for model in (evidence.before, evidence.current, candidate.model)
        )
        if before is None:
            return Judgement(
                context.id, False, {}, "release 0 does not tell the graded policies apart", ()
            )
        numbers = {"policies": float(len(policies)), "before": before}
        numbers |= {} if now is None else {"current": now}
        if after is None:
            return Judgement(context.id, False, numbers, "the policies are no longer told apart")
        numbers |= {"after": after, "drop": before - after}
        if before - after <= self.options.max_drop:
            return Judgement(context.id, True, numbers)
        reason = (
            f"the order of {len(policies)} graded policies falls from {before:.3f} in release 0 to "
            f"{after:.3f}, by more than {self.options.max_drop:g}"
        )
        return Judgement(context.id, False, numbers, reason)


def graded(path: Path, width: int) -> Sequence[tuple[Policy, float]]:
    """Return what is graded with its true return: policies of a folder, or episodes of a file.

    Raises
    ------
    UsageError, DataError
        When nothing can be read, or fewer than two have different true returns.
    """
    if path.is_file():
        whole = read_policy(path, width=width)
        if whole.episode is None or whole.returns is None:
            raise DataError(
                "the file tells no true return of its episodes",
                where=path,
                next_step="write ep_len [e] and ep_ret [e], or a folder with one file per policy",
            )
        parts = [
            (Policy(f"{whole.name}[{i}]", whole.states[whole.episode == i]), float(true))
            for i, true in enumerate(whole.returns)
        ]
    else:
        parts = [
            (policy, policy.true_return)
            for policy in read_policies(path, width=width)
            if policy.true_return is not None
        ]
    if len({true for _, true in parts}) < 2:
        raise DataError(
            "fewer than two policies or episodes have different true returns", where=path
        )
    return parts


def _learned(model: RewardModel, policy: Policy) -> float:
    """Return the mean learned return of an episode; the sum over all states without episodes."""
    reward = np.asarray(model(policy.states))
    returns = policy.per_episode(reward)
    return float(reward.sum() if returns is None else returns.mean())
