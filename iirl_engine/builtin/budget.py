"""The gate `budget`: a reward stays small enough to be used."""

from __future__ import annotations

import numpy as np

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import BudgetOptions
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.pieces import effects, take_apart
from iirl_engine.reward import RewardModel

# Known-good states at which the corrections in effect are counted.
_SOME = 256


class Budget(Gate[BudgetOptions]):
    """Refuses a candidate with too many corrections, or whose rewards cost too much to compute.

    The cost is counted, not timed, so that it is the same everywhere: the numbers that a reward
    reads for one state, those of the encoder (or the expert states, where it learned none) and
    those of the corrections; the ratio is to the same without corrections. `touched` says how many
    pieces of corrections, such as kernels, are in effect at a known-good state on average.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        model, most = candidate.model, self.options
        count = sum(correction.count for correction in model.corrections)
        learned = _numbers(model)
        added = sum(a.size for c in model.corrections for a in c.tensors().values())
        numbers = {
            "corrections": float(count),
            "operations": float(learned + added),
            "ratio": (learned + added) / learned,
        }
        reasons = []
        if count > most.max_corrections:
            reasons.append(f"{count:,} corrections are more than {most.max_corrections:,}")
        if numbers["ratio"] > most.max_ratio:
            reasons.append(
                f"a reward costs {numbers['ratio']:.3g} times what it costs without corrections, "
                f"more than {most.max_ratio:g}"
            )
        if not reasons:
            pieces = take_apart(model.corrections, model)
            some = evidence.known_good[:: 1 + len(evidence.known_good) // _SOME]
            taken = effects(model.corrections, pieces, model, some)
            numbers["touched"] = float(np.count_nonzero(taken) / max(1, len(some)))
        return Judgement(context.id, not reasons, numbers, "; ".join(reasons))


def _numbers(model: RewardModel) -> int:
    """Return how many numbers the base reward of a state is computed from."""
    learned = sum(tensor.numel() for tensor in model.encoder.tensors().values())
    return learned or model.demonstrations.states.size
