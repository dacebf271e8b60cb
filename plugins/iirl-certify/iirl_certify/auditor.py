"""An auditor that looks everywhere: what it calls clean, it has proved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from iirl_certify.boxes import Region
from iirl_certify.ceiling import Ceiling
from iirl_certify.options import BranchAndBoundOptions
from iirl_certify.search import Search
from iirl_engine import Auditor, Context
from iirl_engine.audit import Undecided
from iirl_engine.certificate import Refused, Reward
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target


class BranchAndBound(Auditor[BranchAndBoundOptions]):
    """Halves the domain until every box is proved, or the reward at its middle is a flaw.

    Ends `clean` only when all of the domain is proved. When the budget ends before, the audit is
    `undecided`, or has `findings`. Where an encoder has no formula, boxes are bounded by what
    corrections leave of a base reward of 1; with a correction of an unknown kind nothing is proved.
    """

    family: Family = "adversarial"
    exhaustive: ClassVar[bool] = True

    def audit(self, target: Target, context: Context) -> Iterator[Tensor]:
        formula, margin = target.formula(), self.options.margin
        try:
            ceiling = Ceiling(formula, margin, self.options.method)
            checker = Reward(formula.parts, formula.corrections, formula.tensors)
        except (Refused, ValueError) as error:
            target.reward(target.low[None])
            raise Undecided(f"nothing can be proved: {error}") from error
        search = Search(
            ceiling=ceiling,
            checker=checker,
            reward=target.reward,
            violations=target.violations,
            floor=target.floor,
            margin=margin,
            afford=lambda asked: min(asked, target.remaining),
            pay=target.spend,
        )
        domain = Region(target.low.numpy(), target.high.numpy())
        (judged,) = yield from search.run([domain], width=len(domain.low), go_on=True)
        if not judged.ended:
            raise Undecided(
                f"the budget ended with {100 * judged.settled:.3g} % of the domain proved"
            )
