"""Refiners that edit the encoder, each of which needs one that can be edited so."""

from __future__ import annotations

import attrs
import numpy as np

from iirl_engine import api
from iirl_engine.corrections.revision import Revision
from iirl_engine.demonstrations import take


class Unlearning(api.Refiner):
    needs = frozenset({"unlearn"})

    def propose(self, repair, context):
        if not len(repair.flaws):
            return []
        data, old = repair.model.demonstrations, repair.model.encoder
        apart = np.linalg.norm(data.states - repair.flaws.states.mean(axis=0), axis=1)
        rows = [int(apart.argmin())]
        encoder = type(old)(old.options)
        encoder.restore(old.tensors(), data)
        encoder.unlearn(take(data, np.arange(len(apart)) != rows[0]))
        return [revision(repair, encoder, rows, context)]


class Contrasting(api.Refiner):
    needs = frozenset({"contrast"})

    def propose(self, repair, context):
        if not len(repair.flaws):
            return []
        data, old = repair.model.demonstrations, repair.model.encoder
        encoder = type(old)(old.options)
        negatives = repair.flaws.states
        encoder.fit(attrs.evolve(data, negatives=negatives), context)
        return [revision(repair, encoder, [], context)]


class Tidying(api.Refiner):
    tidies = True

    def propose(self, repair, context):
        """Put all kernels into one correction."""
        old = repair.model.corrections
        if not old:
            return []
        names = ("centers", "radii", "strengths")
        together = {name: np.concatenate([getattr(c, name) for c in old]) for name in names}
        one = attrs.evolve(old[0], id=f"r{context.round}-tidy", **together)
        return api.Proposal([one], replaces=[correction.id for correction in old])


def revision(repair, encoder, rows, context):
    name, mapping = context.id, repair.model.mapping
    return Revision.of(encoder, mapping, rows, id=name, refiner=name, round=context.round)
