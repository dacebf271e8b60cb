"""Sculpting the reward at the limits of norms: it fades to 0 before a state is forbidden."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from iirl_engine import Context, DataError, Fade, Refiner, Repair, RewardModel
from iirl_engine.corrections.base import Correction
from iirl_engine.corrections.fade import fade
from iirl_refiners.options import EnvelopeOptions, NormMaskOptions

# Of the distance to the limit, the share over which the reward fades where nothing objects.
_WIDEST = 0.2
# Of the widest fade, the narrowest that is tried to spare known-good states near the limit.
_NARROWEST = 1e-6


class Envelope(Refiner[EnvelopeOptions]):
    """The base reward fades to zero between two distances from the expert states."""

    def propose(self, repair: Repair, context: Context) -> Sequence[Correction]:
        norm = self.options.norm
        if norm not in repair.model.norms:
            raise DataError(
                f"refiner envelope measures by norm {norm!r}, which the chain does not have",
                known=repair.model.norms,
            )
        expert = torch.tensor(repair.model.demonstrations.states[:1])
        boundary = -float(repair.model.norms[norm].violation(expert)[0])
        outer = boundary if self.options.outer == "auto" else self.options.outer
        if outer > boundary:
            raise DataError(
                "outer must not exceed the norm's boundary, or flaws between them stay",
                got=outer,
                known=[boundary],
            )
        end = outer - boundary
        if self.options.inner == "auto":
            most = _WIDEST * outer
            start = end - widest(repair.model, repair, norm, end, most, self.options.max_loss)
        else:
            start = self.options.inner - boundary
        return _new(repair.model, context, norm, start, end)


class NormMask(Refiner[NormMaskOptions]):
    """Enforces norms as the formulas they are: the reward fades to zero inside their limits.

    For each norm the fade is as wide as known-good states allow, at most a fifth of the way to
    the known-good state deepest inside.
    """

    def propose(self, repair: Repair, context: Context) -> Sequence[Correction]:
        asked = self.options.norms
        names = tuple(repair.model.norms) if asked is None else asked
        unknown = [name for name in names if name not in repair.model.norms]
        if unknown:
            raise DataError(
                f"refiner norm-mask names norms that the chain does not have: {unknown}",
                known=repair.model.norms,
            )
        good = torch.tensor(repair.known_good)
        model, added = repair.model, list[Correction]()
        for name in names:
            most = _WIDEST * -float(model.norms[name].violation(good).min())
            if most <= 0:  # every known-good state lies on the limit: there is no room inside
                continue
            # Near two limits a state loses to both fades: each is sized with those before it.
            width = widest(model, repair, name, 0.0, most, self.options.max_loss)
            new = _new(model, context, name, -width, 0.0)
            model = model.with_corrections(new)
            added.extend(new)
        return added


def widest(
    model: RewardModel, repair: Repair, norm: str, end: float, most: float, max_loss: float
) -> float:
    """Return the widest fade, up to `most`, under which no known-good state loses too much.

    The loss of a state grows with the width, so bisection finds it; it is counted from release
    0. When even the narrowest fade takes too much the narrowest is returned, and the gates say
    so.
    """
    good = torch.tensor(repair.known_good)
    with torch.no_grad():
        violation = model.norms[norm].violation(good)
        now = model.reward(good)
        base = model.base(good)
    lost = torch.tensor(repair.original) - now

    def spares(width: float) -> bool:
        taken = base * fade(violation, end - width, end)
        return bool((lost + taken.clamp(max=now) <= max_loss).all())

    low, high = _NARROWEST * most, most
    if spares(high):
        return high
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if spares(middle) else (low, middle)
    return low


def _new(
    model: RewardModel, context: Context, norm: str, start: float, end: float
) -> list[Correction]:
    """Return the fade as a correction, or nothing when the reward fades at this limit already."""
    if any(isinstance(c, Fade) and (c.norm, c.end) == (norm, end) for c in model.corrections):
        return []
    name = f"r{context.round}-{context.id}-{norm}"
    return [Fade(id=name, refiner=context.id, round=context.round, norm=norm, start=start, end=end)]
