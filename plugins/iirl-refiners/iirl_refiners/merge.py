"""Fewer kernels that do what those of many rounds do together."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Context, Kernels, Proposal, Refiner, Repair
from iirl_engine.support import Support
from iirl_refiners.balls import Balls, joined, profiles
from iirl_refiners.lp import kernels_for
from iirl_refiners.neighbourhood import neighbourhood
from iirl_refiners.options import MergeOptions
from iirl_refiners.program import pruned

Array = NDArray[np.float64]

# How often more states are drawn that the kernels must keep silent.
_TURNS = 5
# Rounding must not carry a known-good state over its cap.
_SLACK = 1e-6


class Merge(Refiner[MergeOptions]):
    """Replaces the kernels of all rounds by fewer, fitted together to all that is closed.

    No closed flaw reopens; no known-good state loses more than the cap, or than it has lost
    already; and of fresh flawed states that are silent now at most a share of `tolerance` opens.
    Where no such kernels are found, all stays as it is.
    """

    tidies = True

    def propose(self, repair: Repair, context: Context) -> Proposal:
        old = [c for c in repair.model.corrections if isinstance(c, Kernels) and _local(c)]
        ids = [c.id for c in old]
        others = [c for c in repair.model.corrections if c.id not in ids]
        bare = attrs.evolve(repair, model=repair.model.evolve(corrections=others))
        closed = repair.closed[bare.model(repair.closed) > repair.floor]
        if sum(c.count for c in old) < 2 or not len(closed):
            return Proposal()
        kernels = self._fewer(repair, bare, closed, old, context)
        if kernels is None:
            return Proposal()
        model = bare.model.with_corrections([kernels])
        loss = repair.original - model(repair.known_good)
        return Proposal(
            [kernels],
            closes=int((model(repair.flaws.states) <= repair.floor).sum()),
            worst_loss=float(loss.max()),
            mean_loss=float(loss.mean()),
            replaces=ids,
        )

    def _fewer(
        self,
        repair: Repair,
        bare: Repair,
        closed: Array,
        old: Sequence[Kernels],
        context: Context,
    ) -> Kernels | None:
        """Return kernels that pass and are fewer.

        Kernels are fitted anew to all that is closed, and join the old; of both, those are kept
        that closed flaws and drawn states need. Fresh draws tell whether that is enough; if not,
        they count as well from then on.
        """
        count, generator = sum(c.count for c in old), context.generator()
        now = bare.model(repair.known_good)
        allowed = np.maximum(self.options.max_loss - (repair.original - now) - _SLACK, 0.0)
        new, strengths = kernels_for(closed, bare, allowed, now > allowed, count, generator)
        groups = [(new, strengths)]
        if all(c.profile == "wendland" for c in old):
            before = Balls(
                np.concatenate([c.centers for c in old]), np.concatenate([c.radii for c in old])
            )
            former = np.concatenate([c.strengths for c in old])
            groups = [(joined(new, before), np.concatenate([strengths, former])), (before, former)]
        probes = _silent(repair, bare, closed, generator)
        for _ in range(_TURNS):
            points = np.concatenate([closed, probes])
            needed = bare.model(points) - repair.floor / 2
            fresh = _silent(repair, bare, closed, generator)
            for balls, given in groups:
                closing = profiles(points, balls)
                # Those that reach the fewest points are tried first.
                reach = np.diff(closing.tocsc().indptr)
                kept = pruned(closing, needed, given, -reach)
                kernels = _kernels(balls.take(kept > 0), kept[kept > 0], context)
                if kernels.count < count and self._passes(kernels, repair, bare, closed, fresh):
                    return kernels
            probes = np.concatenate([probes, fresh])
        return None

    def _passes(
        self, kernels: Kernels, repair: Repair, bare: Repair, closed: Array, fresh: Array
    ) -> bool:
        """Say whether flaws stay closed, fresh states silent, and known-good states as good."""
        model = bare.model.with_corrections([kernels])
        loss = repair.original - model(repair.known_good)
        lost = repair.original - repair.model(repair.known_good)
        opened = int((model(fresh) > repair.floor).sum())
        return bool(
            (loss <= np.maximum(lost, self.options.max_loss) + 1e-9).all()
            and opened <= self.options.tolerance * len(fresh)
            and (model(closed) <= repair.floor).all()
        )


def _local(kernels: Kernels) -> bool:
    """Say whether kernels take reward off around states."""
    return kernels.effect == "suppress" and kernels.space == "state"


def _silent(repair: Repair, bare: Repair, closed: Array, generator: np.random.Generator) -> Array:
    """Draw flawed states of the bare reward that the present one silences."""
    good = Support(repair.known_good)
    gaps = good.distance(torch.tensor(closed)).numpy()
    drawn = neighbourhood(bare.model, repair.floor, closed, good.states, gaps, generator)
    return drawn.flawed[repair.model(drawn.flawed) <= repair.floor]


def _kernels(balls: Balls, strengths: Array, context: Context) -> Kernels:
    return Kernels(
        id=f"r{context.round}-{context.id}",
        refiner=context.id,
        round=context.round,
        strengths=strengths,
        **balls._asdict(),
    )
