"""Regression gates: known-good states keep their reward, and flaws stay closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import ClosureOptions, KnownGoodOptions
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.pieces import at_fault

Mask = NDArray[np.bool_]

# Rewards are sums of floats: a loss of exactly the cap may show a last digit above it.
_ROUNDING = 1e-9
# States over the cap, the worst ones, that corrections are blamed for.
_BLAMED = 1000


class KnownGood(Gate[KnownGoodOptions]):
    """Refuses a candidate under which a known-good state has lost more than `max_loss`.

    The loss is counted from release 0, so that many small losses cannot add up unseen; what the
    candidate alone takes is a number besides, and so are the losses of the states that the encoder
    learned from and of the demonstrations held out from it. To blame are the corrections without
    which every state keeps what it should.
    """

    @property
    def cap(self) -> float:
        return self.options.max_loss

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        good, cap = evidence.known_good, self.options.max_loss
        now = candidate.model(good)
        losses = evidence.original - now
        over = np.flatnonzero(~(losses <= cap + _ROUNDING))
        numbers = {
            "states": float(len(losses)),
            "over": float(len(over)),
            "worst_loss": float(losses.max()),
            "mean_loss": float(losses.mean()),
            "round_worst_loss": float((evidence.current(good) - now).max()),
            "cap": cap,
        }
        if evidence.held_out is not None and evidence.held_out.any():
            for name, rows in (("train", ~evidence.held_out), ("held_out", evidence.held_out)):
                numbers[f"{name}_states"] = float(rows.sum())
                numbers[f"{name}_worst_loss"] = float(losses[rows].max(initial=-1.0))
        if not len(over):
            return Judgement(context.id, True, numbers)
        reason = f"known-good states that lose more than {cap:g}: {len(over)}; "
        reason += f"the worst loses {losses.max():.3g}"
        worst = over[np.argsort(-losses[over], kind="stable")][:_BLAMED]
        blames = at_fault(
            candidate.corrections, candidate.model, good[worst], evidence.original[worst] - cap
        )
        return Judgement(context.id, False, numbers, reason, blames or None)


class Closure(Gate[ClosureOptions]):
    """Refuses a candidate that reopens a closed flaw or closes too few open ones.

    Counted are the flaws that it was asked to close; and apart from them those that no refiner was
    shown, members of the same regions, which tell whether regions close or points.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        is_open = candidate.model(evidence.flaws.states) > evidence.floor
        was_open = evidence.was_open
        asked = was_open if evidence.asked is None else evidence.asked
        withheld = asked & False if evidence.withheld is None else evidence.withheld
        shown = asked & ~withheld
        reopened = int((is_open & ~was_open).sum())
        numbers = {
            "open_before": float(was_open.sum()),
            "closed": float((was_open & ~is_open).sum()),
            "reopened": float(reopened),
            "share": _share(shown, is_open),
        }
        if withheld.any():
            numbers["held_out"] = float(withheld.sum())
            numbers["held_out_share"] = _share(withheld, is_open)
        reasons = []
        if reopened:
            reasons.append(f"closed flaws that would reopen: {reopened}")
        if numbers["share"] < self.options.share:
            reasons.append(f"only {numbers['share']:.1%} of the open flaws close")
        if numbers.get("held_out_share", 1.0) < self.options.held_out_share:
            reasons.append(
                f"only {numbers['held_out_share']:.1%} of the {int(withheld.sum())} flaws close "
                "that no refiner was shown"
            )
        # Less of the candidate closes no more.
        blames = None if reopened else ()
        return Judgement(context.id, not reasons, numbers, "; ".join(reasons), blames)


def _share(rows: Mask, is_open: Mask) -> float:
    """Return the share of the flaws in question that close; 1 when there are none."""
    return float((~is_open[rows]).mean()) if rows.any() else 1.0
