"""Corrective samples: encoder and mapping are fitted anew with confirmed flaws as negatives.

Eq. 2 contrasts demonstrations with negatives. Flaws are negatives that an audit has found, so the
objective is solved again with them among the negatives; the demonstrations are replayed whole, so
that what is good is not unlearned on the way (experience replay, Rolnick et al., NeurIPS 2019).
How much the flaws weigh against the other negatives is raised until they close. A negative keeps
some reward, though, which a mapping to 0 up to what flaws have left takes away: the proposal is a
`Revision` and a `Sculpt`.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine import Context, Demonstrations, Proposal, Refiner, Repair, Revision, Sculpt
from iirl_engine.demonstrations import read_only, without
from iirl_engine.learn import weighed
from iirl_refiners.options import ContrastOptions
from iirl_refiners.revising import revised, spares
from iirl_refiners.unlearn import forgotten

Array = NDArray[np.float64]

# Shares of the negatives' weight that flaws get in turn, when the options name none.
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)

# Others of a region have more reward left than the flaws that are known, by up to this factor.
_BEYOND = 1.5
_WHY = "stays endorsed by the reward that was fitted with it as a negative"


class Contrast(Refiner[ContrastOptions]):
    """Proposes the lightest weight of the flaws that closes most of them within the cap."""

    needs = frozenset({"contrast"})

    def propose(self, repair: Repair, context: Context) -> Proposal:
        tried = [one for one in self._tried(repair, context) if one.closes]
        if tried:
            # Python's max takes the first of equals: the lightest weight.
            return max(tried, key=lambda one: one.closes or 0)
        why = "fitted anew with the flaws as negatives, the reward closes none within max_loss"
        return Proposal(left=dict.fromkeys(range(len(repair.flaws)), why))

    def _tried(self, repair: Repair, context: Context) -> Iterator[Proposal]:
        """Yield what each weight of the flaws leads to, where nothing is lost or reopened."""
        rows = forgotten(repair.model)
        rest = weighed(repair.model, without(repair.model.demonstrations, rows))
        flaws = np.concatenate([repair.flaws.states, repair.closed])
        for share in _SHARES if self.options.share == "auto" else (self.options.share,):
            revision = self._revision(repair, rest, rows, flaws, share, context)
            cut = _cut(repair, revision, flaws, context)
            one = revised(repair, [revision, cut] if cut else [revision], _WHY)
            if spares(repair, one, self.options.max_loss):
                yield one
                if one.closes == len(repair.flaws):
                    return

    def _revision(
        self,
        repair: Repair,
        rest: Demonstrations,
        rows: NDArray[np.int64],
        flaws: Array,
        share: float,
        context: Context,
    ) -> Revision:
        old, curve = repair.model.learned
        encoder, mapping = type(old)(old.options), type(curve)(curve.options)
        encoder.fit(with_negatives(rest, flaws, share), attrs.evolve(context, kind="encoder"))
        with torch.no_grad():
            loss = encoder.encode(torch.tensor(rest.states)).loss
        mapping.fit(loss, attrs.evolve(context, kind="mapping"))
        name = f"r{context.round}-{context.id}"
        return Revision.of(encoder, mapping, rows, id=name, refiner=context.id, round=context.round)


def _cut(repair: Repair, added: Revision, flaws: Array, context: Context) -> Sculpt | None:
    """Return the mapping that leaves flaws nothing; None where that is most of the scale."""
    base = repair.model.evolve(corrections=(added,))(flaws)
    end = _BEYOND * float(base.max())
    if not 0 < 2 * end < 1:
        return None
    return Sculpt(
        id=f"r{context.round}-{context.id}-cut",
        refiner=context.id,
        round=context.round,
        knots=[0.0, end, 2 * end, 1.0],
        values=[0.0, 0.0, 2 * end, 1.0],
    )


def with_negatives(data: Demonstrations, flaws: Array, share: float) -> Demonstrations:
    """Return demonstrations whose negatives hold flaws `[m, d]`, with a share of their weight."""
    count = len(data.negatives)
    weights = np.ones(count) if data.negative_weights is None else np.array(data.negative_weights)
    if count:
        # The other negatives keep their weights, so that the flaws' share alone changes.
        total = float(weights.sum())
        each = total * share / (1 - share) / len(flaws)
    else:
        each = 1.0
    return attrs.evolve(
        data,
        negatives=read_only(np.concatenate([data.negatives, flaws])),
        negative_weights=read_only(np.concatenate([weights, np.full(len(flaws), each)])),
    )
