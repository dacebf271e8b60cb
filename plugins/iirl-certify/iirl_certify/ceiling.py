"""Upper bounds of the corrected reward over boxes, where a norm forbids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from iirl_certify.boxes import Boxes
from iirl_certify.relaxation import Method, Program, loss_low
from iirl_engine.formula import Formula

# More than NumPy and torch err by in exp, sqrt and distances, relative to the numbers involved.
_SLACK = 1e-12
_TILE = 2**22
_GAUSSIAN_REACH = 7.434
_LEAST = 1e-290
# Kinds of corrections that are bounded here.
_BOUNDED = ("fade", "kernels")


@attrs.frozen(eq=False)
class Bound:
    """What is known of each box, `[n]`.

    Parameters
    ----------
    ceiling
        R is at most this wherever a norm forbids; -1 where none can.
    allowed
        No norm forbids anything in the box.
    slack
        `[n, q]` what each axis adds to the looseness of the bound of the loss.
    """

    ceiling: Tensor
    allowed: Tensor
    slack: Tensor


class Ceiling:
    """Bounds R = clip(g(L) - suppression + lift, 0, 1), from a reward's formula.

    Of a box only the part matters where a norm forbids; there the violation of that norm is above
    its limit, and a fade that ends at or inside the limit has taken all of the base reward.

    Parameters
    ----------
    formula
        The reward.
    margin
        How far beyond its boundary the norm `support` is taken to forbid.
    method
        How the loss is bounded.

    Raises
    ------
    ValueError
        When the formula has an operation or a correction that nothing is known of.
    """

    def __init__(self, formula: Formula, margin: float, method: Method) -> None:
        self._parts, self._corrections = formula.parts, formula.corrections
        for entry in formula.corrections:
            if entry["kind"] not in _BOUNDED or entry.get("space", "state") != "state":
                raise ValueError(f"nothing is known of correction {entry['id']!r}")
        self._margin, self._method = margin, method
        self._tensors = {n: torch.tensor(a) for n, a in formula.tensors.items() if a.size}
        self._experts = self._tensors["demonstrations.states"]
        loss = self._parts["loss"]
        self._program = None if loss is None else Program.of(loss, formula.tensors)

    def limit(self, norm: str) -> float:
        """Return the violation above which a norm is taken to forbid."""
        step = self._parts["norms"][norm]
        return self._margin if step is not None and step["op"] == "support" else 0.0

    def __call__(self, boxes: Boxes) -> Bound:
        """Bound the reward over each box."""
        middle, extent = boxes.middle(), boxes.extent()
        reach = torch.linalg.vector_norm(extent, dim=1) * (1 + _SLACK)
        norms = {n: self._violation(n, middle, extent, reach) for n in self._parts["norms"]}
        allowed = torch.ones(len(middle), dtype=torch.bool)
        for name, (_, most) in norms.items():
            allowed &= most <= self.limit(name)
        base, slack = self._base(boxes)
        added = self._kernels(middle, reach)
        ceiling = torch.full((len(middle),), -1.0, dtype=torch.float64)
        for name, (_, most) in norms.items():
            kept = self._kept(name, norms)
            here = torch.where(kept > 0, base * kept.clamp(min=_LEAST) + _SLACK, 0.0) + added
            here = here.clamp(0, 1)
            ceiling = torch.maximum(ceiling, torch.where(most <= self.limit(name), -1.0, here))
        return Bound(ceiling, allowed, slack)

    def _base(self, boxes: Boxes) -> tuple[Tensor, Tensor]:
        if self._program is None:
            loss = torch.full((len(boxes.center),), -math.inf, dtype=torch.float64)
            return self._mapped(loss), torch.zeros_like(boxes.half)
        loss, slack = loss_low(self._program, boxes, self._method)
        return self._mapped(loss), slack

    def _mapped(self, loss: Tensor) -> Tensor:
        """Return g of a lower bound of the loss, rounded up; 1 covers a mapping that none knows."""
        step: Mapping[str, Any] = self._parts["mapping"] or {"op": None}
        t = {w: self._tensors.get(f"mapping.{name}") for w, name in step.items() if w != "op"}
        if step["op"] == "linear" and (t["cap"] > 0).all():
            return (1 - (loss / t["cap"]).clamp(0, 1) + _SLACK).clamp(max=1)
        if step["op"] == "exp" and t["limits"][1] > t["limits"][0] and step["steepness"] >= 0:
            low, high = t["limits"].tolist()
            fall = (loss - low) / (high - low) * step["steepness"]
            error = 1 + fall.abs() + step["steepness"] * (abs(low) + abs(high)) / (high - low)
            return (torch.exp(error * _SLACK - fall) + _SLACK).clamp(max=1)
        if step["op"] == "sigmoid" and (t["shape"] > 0).all():
            middle, width = t["shape"].tolist()
            rise = (loss - middle) / width
            rise = rise - _SLACK * (1 + rise.abs() + middle / width)
            return (torch.sigmoid(-rise) * (1 + math.exp(-middle / width)) + _SLACK).clamp(max=1)
        if step["op"] == "isotonic" and (t["values"].diff() <= 0).all():
            knots, values = t["knots"], t["values"]
            right = torch.searchsorted(knots, loss.contiguous(), right=True)
            right = right.clamp(1, len(knots) - 1)
            share = (loss - knots[right - 1]) / (knots[right] - knots[right - 1])
            drop = values[right] - values[right - 1]
            return (values[right - 1] + share.clamp(0, 1) * drop + _SLACK).clamp(max=1)
        return torch.full_like(loss, math.inf)

    def _kept(self, name: str, norms: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Return which share of the base reward fades leave at most, where a norm forbids."""
        kept = torch.ones_like(norms[name][0])
        for entry in self._corrections:
            if entry["kind"] == "fade":
                v, start, end = norms[entry["norm"]][0], entry["start"], entry["end"]
                if entry["norm"] == name:
                    v = v.clamp(min=self.limit(name))
                share = ((v - start) / (end - start) - _SLACK).clamp(0, 1)
                taken = share.square() * (3 - 2 * share) - _SLACK
                kept = kept - torch.where(v >= end, 1.0, taken)
        return kept

    def _kernels(self, middle: Tensor, reach: Tensor) -> Tensor:
        """Return lift minus suppression at most: every kernel falls with distance."""
        total = torch.zeros_like(reach)
        for entry in self._corrections:
            if entry["kind"] != "kernels" or not entry["count"]:
                continue
            centers, radii, strengths = (
                self._tensors[f"correction.{entry['id']}.{name}"]
                for name in ("centers", "radii", "strengths")
            )
            lifts = entry.get("effect") == "lift"
            rows = max(1, _TILE // len(radii))
            for part in torch.split(torch.arange(len(middle)), rows):
                apart = _distances(middle[part], centers)
                far = reach[part, None]
                moved = apart - far if lifts else apart + far
                error = _SLACK * (apart + far)
                r = ((moved - error if lifts else moved + error) / radii).clamp(min=0)
                if entry["profile"] == "gaussian":
                    height = torch.where(r < _GAUSSIAN_REACH, torch.exp(-r.square() / 2), 0.0)
                else:
                    height = (1 - r).clamp(min=0).pow(4) * (4 * r + 1)
                error_of_sum = _SLACK + len(radii) * 2.0**-52
                if lifts:
                    total[part] += height @ strengths * (1 + error_of_sum)
                else:
                    total[part] -= height @ strengths * (1 - error_of_sum)
        return total

    def _violation(
        self, name: str, middle: Tensor, extent: Tensor, reach: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return bounds of a norm's violation: each changes by no more than a state moves."""
        step = self._parts["norms"][name]
        if step is None:  # it may forbid everything, or nothing
            unknown = torch.full_like(reach, math.inf)
            return -unknown, unknown
        if step["op"] == "support":
            (limit,) = self._tensors[f"norm.{name}.{step['boundary']}"].tolist()
            rows = max(1, _TILE // len(self._experts))
            apart = torch.cat(
                [_distances(s, self._experts).amin(dim=1) for s in torch.split(middle, rows)]
            )
            wide = reach + _SLACK * (apart + abs(limit))
            return apart - limit - wide, apart - limit + wide
        if step["op"] == "box":
            low, high = (torch.tensor(step[side], dtype=torch.float64) for side in ("low", "high"))
            x, wide = middle[:, step["columns"]], extent[:, step["columns"]]
            wide = wide + _SLACK * (x.abs() + low.abs() + high.abs())
            outside = torch.maximum(low - x, x - high)
            least, most = (outside - wide).amax(dim=1), (outside + wide).amax(dim=1)
            return (-most, -least) if step["forbid"] else (least, most)
        if step["op"] == "linear":
            a = torch.tensor(step["a"], dtype=torch.float64)
            length = torch.linalg.vector_norm(a)
            wide = extent @ a.abs() + _SLACK * (middle.abs() @ a.abs() + abs(step["b"]))
            value = middle @ a - step["b"]
            return (value - wide) / length, (value + wide) / length
        raise ValueError(f"nothing is known of the norm {step['op']!r}")


def _distances(states: Tensor, points: Tensor) -> Tensor:
    return torch.cdist(states, points, compute_mode="donot_use_mm_for_euclid_dist")
