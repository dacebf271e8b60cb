"""Regression gates: known-good states keep their reward, and flaws stay closed."""

from __future__ import annotations

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import ClosureOptions, KnownGoodOptions
from iirl_engine.evidence import Candidate, Evidence, Judgement


class KnownGood(Gate[KnownGoodOptions]):
    """Refuses a candidate under which a known-good state has lost more than `max_loss`.

    The loss is counted from release 0, so that many small losses cannot add up unseen.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        losses = evidence.original - candidate.model(evidence.known_good)
        # Rewards are sums of floats: a loss of exactly the cap may show a last digit above it.
        over = int((losses > self.options.max_loss + 1e-9).sum())
        numbers = {
            "states": float(len(losses)),
            "over": float(over),
            "worst_loss": float(losses.max()),
            "mean_loss": float(losses.mean()),
            "cap": self.options.max_loss,
        }
        reason = f"known-good states that lose more than {self.options.max_loss:g}: {over}; "
        reason += f"the worst loses {losses.max():.3g}"
        return Judgement(context.id, over == 0, numbers, "" if over == 0 else reason)


class Closure(Gate[ClosureOptions]):
    """Refuses a candidate that reopens a closed flaw or closes too few open ones."""

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        is_open = candidate.model(evidence.flaws.states) > evidence.floor
        was_open = evidence.was_open
        reopened = int((is_open & ~was_open).sum())
        closed = int((was_open & ~is_open).sum())
        share = closed / int(was_open.sum()) if was_open.any() else 1.0
        numbers = {
            "open_before": float(was_open.sum()),
            "closed": float(closed),
            "reopened": float(reopened),
            "share": share,
        }
        reasons = []
        if reopened:
            reasons.append(f"closed flaws that would reopen: {reopened}")
        if share < self.options.share:
            reasons.append(f"only {share:.1%} of the open flaws close")
        return Judgement(context.id, not reasons, numbers, "; ".join(reasons))
