"""How good a reward is, judged by recorded policies beside an independent column."""

from iirl_engine.evaluation.agreement import auroc, pearson_distance, spearman
from iirl_engine.evaluation.equivalence import Transitions, epic
from iirl_engine.evaluation.measures import evaluate
from iirl_engine.evaluation.policies import PoliciesError, Policy, read_policies
from iirl_engine.evaluation.result import Evaluation, PolicyRow, TrivialRow

__all__ = [
    "Evaluation",
    "PoliciesError",
    "Policy",
    "PolicyRow",
    "Transitions",
    "TrivialRow",
    "auroc",
    "epic",
    "evaluate",
    "pearson_distance",
    "read_policies",
    "spearman",
]
