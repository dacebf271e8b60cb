"""One budget for several auditors, spent where the next region of flaws is most likely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from iirl_auditors.blue_team.options import CoverageOptions
from iirl_engine import Auditor, Context
from iirl_engine.records import Concern, Family, Suspects

if TYPE_CHECKING:
    from iirl_engine.target import PartOfTarget, Target

# The budget is cut into so many slices per arm; an arm's slices double while it is drawn.
_SLICES = 4
_SMALLEST, _LARGEST = 64, 0.1
# States drawn for each that is asked about; the least covered of them, and the least certain.
_DRAWN, _UNCOVERED = 8, 4
# Half the width of a part of the domain, as a share of the domain's.
_HALF = 0.25


@attrs.define(eq=False)
class Arm:
    """An auditor, or None for probes, in the whole domain or in a part; and what it has yielded.

    Parameters
    ----------
    regions, queries
        New regions found and queries spent, discounted.
    slices
        How often it was drawn.
    """

    name: str | None
    focused: bool
    regions: float = 0.0
    queries: float = 0.0
    slices: int = 0
    ended: bool = False


class Coverage(Auditor[CoverageOptions]):
    """Steers one budget to where the domain is least probed and uncertainty is highest.

    A bandit with one arm per auditor that it leads, for the whole domain and again for a part of
    it, and one arm for probes of its own. Each turn gives a slice of the budget to the arm from
    whose posterior the highest rate of new regions per query is drawn: Thompson sampling (Thompson
    1933) with a Gamma-Poisson model, discounted because a region is new but once (Raj & Kalyani
    2017); each arm gets a slice first.
    A part is a box around a state that is little covered by earlier probes and little certain; the
    probes ask about such states themselves. An auditor that leaves more than half of its slice
    unspent has nothing more to ask there.
    """

    family: Family = "out-of-distribution"

    def __init__(self, options: CoverageOptions) -> None:
        super().__init__(options)
        self._members: dict[str, Auditor[Any]] = {}

    def lead(self, members: Mapping[str, Auditor[Any]]) -> None:
        self._members = dict(members)

    def audit(self, target: Target, context: Context) -> Iterator[Tensor | Suspects | Concern]:
        generator = context.generator()
        arms = [Arm(name, focused) for name in self._members for focused in (False, True)]
        arms.append(Arm(None, False))
        first = max(_SMALLEST, target.budget // (_SLICES * len(arms)))
        found, told = torch.empty((0, len(target.low)), dtype=torch.float64), set[tuple[str, str]]()
        while target.remaining and (left := [arm for arm in arms if not arm.ended]):
            arm = draw_arm(left, first, generator)
            size = min(first * 2**arm.slices, max(first, int(_LARGEST * target.budget)))
            part = self._part(target, arm, size, generator)
            if part is None:
                arm.ended = True
                continue
            reported = set[bytes]()
            for said in self._said(part, arm, context, generator):
                if isinstance(said, Concern):
                    kind = (str(arm.name), said.kind)
                    if arm.focused or kind in told:  # of a part of the domain it may not hold
                        continue
                    told.add(kind)
                else:
                    reported |= rows_of(said.states if isinstance(said, Suspects) else said)
                yield said
            new = novel(part.flaws, found, target.scale)
            found = torch.cat([found, new])
            # A search passes by more flaws than it reports.
            passed = [row for row in new if not rows_of(row[None]) & reported]
            if passed:
                yield torch.stack(passed)
            for other in arms:
                other.regions *= self.options.discount
                other.queries *= self.options.discount
            arm.regions += len(new)
            arm.queries += part.queries
            arm.slices += 1
            arm.ended = part.queries <= part.budget / 2

    def _part(
        self, target: Target, arm: Arm, size: int, generator: np.random.Generator
    ) -> PartOfTarget | None:
        """Return the share of the target that an arm gets, or None where there is no place."""
        if not arm.focused:
            return target.part(size)
        centre = doubtful(target, 1, generator)
        if not len(centre):
            return None
        half = _HALF * (target.high - target.low)
        low = (centre[0] - half).clamp(target.low, target.high - 2 * half)
        return target.part(size, low, low + 2 * half)

    def _said(
        self, part: PartOfTarget, arm: Arm, context: Context, generator: np.random.Generator
    ) -> Iterator[Tensor | Suspects | Concern]:
        if arm.name is not None:
            place = "part" if arm.focused else "whole"
            own = attrs.evolve(context, id=f"{context.id}/{arm.name}/{place}/{arm.slices}")
            yield from self._members[arm.name].audit(part, own)
            return
        while part.remaining:
            probes = doubtful(part, part.remaining, generator)
            if not len(probes):
                return
            yield probes[part.reward(probes) > part.floor]


def draw_arm(arms: list[Arm], first: int, generator: np.random.Generator) -> Arm:
    """Return an arm not drawn yet, else the one with the highest rate drawn from its posterior.

    Rates of new regions per query are Gamma(1 + regions, first + queries) distributed: before
    anything is known, one region per first slice.
    """
    if fresh := [arm for arm in arms if not arm.slices]:
        return fresh[0]
    rates = [generator.gamma(1 + arm.regions) / (first + arm.queries) for arm in arms]
    return arms[int(np.argmax(rates))]


def doubtful(target: Target, count: int, generator: np.random.Generator) -> Tensor:
    """Return at most `count` states `[n, d]` where a flaw could be seen and least is known.

    Uniform states that a norm forbids and no correction silences, drawn without replacement with
    weights (1 - coverage) and uncertainty (Efraimidis & Spirakis 2006). Where the encoder measures
    its uncertainty itself, that is paid for, and fewer are returned.
    """
    price = target.uncertainty_price
    wanted = min(count, max(1, target.remaining // (1 + _UNCOVERED * price)), 512)
    if wanted * (1 + price) > target.remaining:
        price = 0  # the last queries are for the reward
        wanted = min(count, target.remaining)
    width = target.high - target.low
    drawn = torch.tensor(generator.random((max(64, _DRAWN * wanted), len(width))))
    states = target.low + width * drawn
    states = states[(target.violation(states) > 0) & ~target.silenced(states)]
    weight = 1 - target.coverage(states)
    if price:
        shortlist = weighted(weight, _UNCOVERED * wanted, generator)[: target.remaining - wanted]
        states, weight = states[shortlist], weight[shortlist]
    elif target.uncertainty_price:
        return states[weighted(weight, wanted, generator)]
    weight = weight * target.uncertainty(states)
    return states[weighted(weight, wanted, generator)]


def weighted(weight: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return `count` rows, drawn without replacement with weights `[n]`; all if there are fewer."""
    noise = torch.tensor(generator.exponential(size=len(weight)))
    # A weight of 0 is drawn last, not never: where nothing else is left it is asked about too.
    keys = noise / weight.clamp(min=1e-9)
    return keys.argsort(stable=True)[:count]


def rows_of(states: Tensor) -> set[bytes]:
    """Return the rows of `states [n, d]`, as bytes that can be looked up."""
    return {row.tobytes() for row in states.detach().to(torch.float64).numpy()}


def novel(flaws: Tensor, found: Tensor, scale: float) -> Tensor:
    """Return flaws `[k, d]`, each farther than `scale` from the others and from those found."""
    new = []
    if len(found) and len(flaws):
        flaws = flaws[torch.cdist(flaws, found).amin(dim=1) > scale]
    while len(flaws):
        new.append(flaws[0])
        flaws = flaws[torch.linalg.vector_norm(flaws - flaws[0], dim=1) > scale]
    return torch.stack(new) if new else flaws
