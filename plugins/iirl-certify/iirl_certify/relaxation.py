"""Lower bounds of an encoder's loss over boxes: intervals, CROWN-IBP and CROWN.

Intervals are pushed forward through the operations of the formula. CROWN (Zhang et al., "Efficient
neural network robustness certification with general activation functions", NeurIPS 2018) goes
backward: a linear function of a value becomes one of the values it is made of, a ReLU being
replaced by the line that bounds it on the side that counts; in the end it is a linear function of
the place in the box, whose minimum is known. What ReLUs and gates range over comes from intervals
in CROWN-IBP (Zhang et al. 2020) and from backward passes of its own in CROWN (for general graphs:
Xu et al., "Automatic perturbation analysis for scalable certified robustness", NeurIPS 2020).

Rounding is outward. A bound is moved by a multiple of 2^-52 of the sum of the magnitudes of its
terms: a sum of n products errs by at most n 2^-53 of it, in whatever order it is added up (Higham,
"Accuracy and stability of numerical algorithms", 2002, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from iirl_certify.boxes import Boxes

Method = Literal["interval", "crown-ibp", "crown"]

_EPS = 2.0**-52
# exp of torch errs by a few units in the last place.
_EXP = 1e-12
_TINY = 1e-290


@attrs.frozen(eq=False)
class Range:
    """Bounds of a value, `[n, k, m]` each."""

    low: Tensor
    high: Tensor

    def magnitude(self) -> Tensor:
        return torch.maximum(self.low.abs(), self.high.abs())

    def widened(self, error: Tensor) -> Range:
        return Range(self.low - error - _TINY, self.high + error + _TINY)


@attrs.frozen(eq=False)
class Gate:
    """A mixture's output as a linear function of its inputs, give or take `rest`.

    Parameters
    ----------
    weights
        `[n, k]` softmax in the middle of the box.
    tilt
        `[n, k, m]` how output m changes with logit k.
    constant
        `[n, m]`.
    rest
        `[n, m]`.
    size
        `[n, m]` sum of the magnitudes of its terms.
    """

    weights: Tensor
    tilt: Tensor
    constant: Tensor
    rest: Tensor
    size: Tensor


@attrs.frozen(eq=False)
class Program:
    """An encoder's formula with its tensors: a list of operations that ends in `mean-square`."""

    steps: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, steps: Sequence[Mapping[str, Any]], tensors: Mapping[str, Any]) -> Program:
        """Return the operations with the tensors they name put in, as float64.

        Raises
        ------
        ValueError
            When an operation is unknown.
        """
        bound = []
        for step in steps:
            if step["op"] not in _WORDS:
                raise ValueError(f"no bounds are known for the operation {step['op']!r}")
            named = {w: tensors[f"encoder.{step[w]}"] for w in _WORDS[step["op"]]}
            if step["op"] == "scale" and not (named["spread"] > 0).all():
                raise ValueError("a spread must be above 0")
            bound.append(
                {**step, **{w: torch.tensor(t, dtype=torch.float64) for w, t in named.items()}}
            )
        if not bound or bound[-1]["op"] != "mean-square":
            raise ValueError("no bounds are known for a loss that is not a mean square")
        return cls(bound)

    def values(self, states: Tensor) -> list[Tensor]:
        """Return every value but the loss, `[n, k, m]`, of states `[n, d]`."""
        values = [states[:, None]]
        for step in self.steps[:-1]:
            of = step["of"] if isinstance(step["of"], list) else [step["of"]]
            values.append(_VALUE[step["op"]](step, *(values[i] for i in of)))
        return values


_WORDS: dict[str, tuple[str, ...]] = {
    "scale": ("center", "spread"),
    "affine": ("weight", "bias"),
    "relu": (),
    "mixture": (),
    "subtract": (),
    "mean-square": (),
}


def loss_low(program: Program, boxes: Boxes, method: Method) -> tuple[Tensor, Tensor]:
    """Return a lower bound of the loss over each box `[n]`, and what each axis adds to its slack.

    The loss is |e|^2 / d of a residual e. Besides coordinate by coordinate it is bounded along one
    direction, |e| >= v.e / |v|, with v the residual in the middle of the box: there CROWN keeps
    track of how the coordinates move together.
    """
    pass_ = _Pass(program, boxes, method)
    residual = int(program.steps[-1]["of"])
    reach = pass_.ranges[residual]
    apart = torch.maximum(reach.low, -reach.high).clamp(min=0)[:, 0]
    width = apart.shape[1]
    low = apart.square().sum(dim=1) / width
    if method == "interval":
        return _down(low), torch.zeros_like(boxes.half)
    v = pass_.middle[residual][:, 0]
    v = v / v.abs().amax(dim=1, keepdim=True).clamp(min=_TINY)
    along, slope = pass_.backward(residual, v[:, None, None])
    squared = along[:, 0].clamp(min=0).square() / v.square().sum(dim=1).clamp(min=1) / width
    return _down(torch.maximum(low, squared)), slope[:, 0].abs()


def _down(values: Tensor) -> Tensor:
    """Return values moved down by more than a few dozen roundings of numbers above 0."""
    return values * (1 - _EXP)


class _Pass:
    """The bounds of every value of a program over a batch of boxes."""

    def __init__(self, program: Program, boxes: Boxes, method: Method) -> None:
        self.steps, self.boxes = program.steps, boxes
        middle, extent = boxes.middle(), boxes.extent()
        self.middle = program.values(middle)
        self.ranges = [Range((middle - extent)[:, None], (middle + extent)[:, None])]
        self.gates: dict[int, Gate] = {}
        for place, step in enumerate(self.steps[:-1], start=1):
            of = step["of"] if isinstance(step["of"], list) else [step["of"]]
            if method == "crown" and step["op"] in ("relu", "mixture"):
                for i in of:
                    self.ranges[i] = self._tightened(i)
            if step["op"] == "mixture":
                self.gates[place] = self._gate(*of, exact=method == "crown")
            self.ranges.append(self._forward(place, step, [self.ranges[i] for i in of]))

    def _forward(self, place: int, step: Mapping[str, Any], of: list[Range]) -> Range:
        if step["op"] != "mixture":
            return _RANGE[step["op"]](step, *of)
        # Weights that are at least 0 and add up to 1: no output leaves what the rows range over.
        return Range(of[1].low.amin(dim=1, keepdim=True), of[1].high.amax(dim=1, keepdim=True))

    def _tightened(self, place: int) -> Range:
        """Return bounds of a value by backward passes, one for each of its numbers and sides."""
        known = self.ranges[place]
        n, k, m = known.low.shape
        unit = torch.eye(k * m, dtype=torch.float64).reshape(1, k * m, k, m)
        low, high = self.backward(place, unit)[0], -self.backward(place, -unit)[0]
        return Range(
            torch.maximum(known.low, low.view(n, k, m)),
            torch.minimum(known.high, high.view(n, k, m)),
        )

    def _gate(self, logits: int, rows: int, *, exact: bool) -> Gate:
        z, zs = self.middle[logits][:, 0], self.ranges[logits]
        n, k = z.shape
        apart = z[:, :, None] - z[:, None]  # [n, k, j] is z_k - z_j
        if exact:
            unit = torch.eye(k, dtype=torch.float64)
            pairs = (unit[:, None] - unit[None]).reshape(1, k * k, 1, k)
            least = self.backward(logits, pairs)[0].view(n, k, k)
        else:
            least = zs.low[:, 0, :, None] - zs.high[:, 0, None]
        size = (zs.magnitude()[:, 0, :, None] + zs.magnitude()[:, 0, None]) * 8 * _EPS + _TINY
        least = least - size
        most = -least.transpose(1, 2)
        same = torch.eye(k, dtype=torch.bool)
        least, most = least.masked_fill(same, 0.0), most.masked_fill(same, 0.0)
        weights, low, high = (1 / torch.exp(-side).sum(dim=2) for side in (apart, least, most))
        moved = torch.maximum(most - apart, apart - least) + size
        # Taylor: |w_k''| <= w_k times the square of the largest change of a difference of logits.
        bent = (0.5 + _EXP) * high * moved.amax(dim=(1, 2)).square()[:, None]
        free = torch.maximum(high - weights, weights - low)
        line = (bent < free).to(torch.float64)
        blur = torch.minimum(bent, free) + 2 * _EXP * high
        y, ys = self.middle[rows], self.ranges[rows]
        p = (weights[:, :, None] * y).sum(dim=1)
        g = y - p[:, None]
        spread = torch.maximum(ys.high - y, y - ys.low)
        pull = (weights * line)[:, :, None] * g
        tilt = pull - weights[:, :, None] * pull.sum(dim=1, keepdim=True)
        leans = weights * line * (weights[:, None] * moved).sum(dim=2)
        rest = blur[:, :, None] * (g.abs() + spread) + leans[:, :, None] * spread
        magnitude = ys.magnitude() + p.abs()[:, None]
        return Gate(
            weights=weights,
            tilt=tilt,
            constant=p - (weights.sum(dim=1, keepdim=True) * p) - (tilt * z[:, :, None]).sum(dim=1),
            rest=rest.sum(dim=1),
            size=(magnitude * (1 + zs.magnitude()[:, 0].sum(dim=1)[:, None, None])).sum(dim=1),
        )

    def backward(self, place: int, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower bounds `[n, o]` of linear functions of a value, and slopes `[n, o, q]`.

        Parameters
        ----------
        place
            Which value.
        coefficients
            `[n, o, k, m]`, or `[1, o, k, m]` for all boxes.
        """
        pending = {place: coefficients}
        constant = torch.zeros(coefficients.shape[:2], dtype=torch.float64)
        error = torch.zeros_like(constant)
        for at in range(place, 0, -1):
            if at not in pending:
                continue
            slope, step = pending.pop(at), self.steps[at - 1]
            of = step["of"] if isinstance(step["of"], list) else [step["of"]]
            parts, added, size = self._through(at, step, slope, of)
            constant, error = constant + added, error + size + 4 * _EPS * added.abs()
            for i, part in zip(of, parts, strict=True):
                pending[i] = pending[i] + part if i in pending else part
        slope = pending[0][:, :, 0]
        boxes, reach = self.boxes, self.ranges[0].magnitude()[:, 0]
        tilt = (slope @ boxes.axes.transpose(1, 2)) * boxes.half[:, None]
        start = (slope * boxes.middle()[:, None]).sum(dim=2)
        terms = 2 * sum(boxes.axes.shape[1:]) + len(self.steps) + 16
        error = error + terms * _EPS * (slope.abs() * reach[:, None]).sum(dim=2)
        low = start + constant - tilt.abs().sum(dim=2)
        return low - error * (1 + _EXP) - 8 * _EPS * (start.abs() + constant.abs()) - _TINY, tilt

    def _through(
        self, at: int, step: Mapping[str, Any], slope: Tensor, of: list[int]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the coefficients on each input, what is constant, and a bound on the rounding."""
        if step["op"] == "subtract":
            size = (self.ranges[i].magnitude() for i in of)
            return (
                [slope, -slope],
                slope.sum(dim=(2, 3)) * 0,
                8 * _EPS * _dot(slope.abs(), sum(size)),
            )
        if step["op"] == "mixture":
            gate = self.gates[at]
            inner = slope[:, :, 0]
            tilt = (inner @ gate.tilt.transpose(1, 2))[:, :, None]
            rows = inner[:, :, None] * gate.weights[:, None, :, None]
            added = (inner * gate.constant[:, None]).sum(dim=2)
            lost = (inner.abs() * gate.rest[:, None]).sum(dim=2)
            terms = 8 * rows.shape[2] + inner.shape[2] + 24
            size = terms * _EPS * (inner.abs() * gate.size[:, None]).sum(dim=2)
            return [tilt, rows], added - lost, size + 8 * _EPS * lost
        known = self.ranges[of[0]]
        part, added, size = _BACK[step["op"]](step, slope, known)
        return [part], added, size


def _dot(slope: Tensor, value: Any) -> Tensor:
    return (slope.flatten(2) @ value.flatten(1)[..., None])[..., 0]


def _matrix(step: Mapping[str, Any]) -> Tensor:
    """Return a weight as `[k, m, d]`."""
    weight: Tensor = step["weight"]
    return weight.reshape(-1, *weight.shape[-2:])


def _affine(step: Mapping[str, Any], x: Tensor) -> Tensor:
    return (_matrix(step) @ x[..., None])[..., 0] + step["bias"]


def _affine_range(step: Mapping[str, Any], x: Range) -> Range:
    weight, bias = _matrix(step), step["bias"]
    middle, half = (x.low + x.high) / 2, (x.high - x.low) / 2
    center = (weight @ middle[..., None])[..., 0] + bias
    reach = (weight.abs() @ half[..., None])[..., 0]
    size = (weight.abs() @ x.magnitude()[..., None])[..., 0] + bias.abs()
    error = (2 * weight.shape[2] + 16) * _EPS * size
    return Range(center - reach, center + reach).widened(error)


def _affine_back(step: Mapping[str, Any], slope: Tensor, x: Range) -> tuple[Tensor, Tensor, Tensor]:
    weight, bias = _matrix(step), step["bias"]
    part = torch.einsum("nokm,kmi->noki", slope, weight.expand(slope.shape[2], -1, -1))
    if x.low.shape[1] == 1:
        part = part.sum(dim=2, keepdim=True)
    size = (weight.abs() @ x.magnitude()[..., None])[..., 0] + bias.abs()
    terms = weight.shape[0] * weight.shape[1] + 16
    return part, (slope * bias).sum(dim=(2, 3)), terms * _EPS * _dot(slope.abs(), size)


def _scale(step: Mapping[str, Any], x: Tensor) -> Tensor:
    far = step["farthest"]
    return (x / step["spread"] - step["center"] / step["spread"]).clamp(-far, far)


def _scale_range(step: Mapping[str, Any], x: Range) -> Range:
    shift, spread, far = step["center"] / step["spread"], step["spread"], step["farthest"]
    error = 8 * _EPS * (x.magnitude() / spread + shift.abs())
    moved = Range(x.low / spread - shift, x.high / spread - shift).widened(error)
    return Range(moved.low.clamp(-far, far), moved.high.clamp(-far, far))


def _scale_back(step: Mapping[str, Any], slope: Tensor, x: Range) -> tuple[Tensor, Tensor, Tensor]:
    spread, far = step["spread"], step["farthest"]
    reach = _scale_range(step, x)
    cut = (reach.magnitude() >= far)[:, None]
    part = torch.where(cut, 0.0, slope / spread)
    worst = torch.minimum(slope * reach.low[:, None], slope * reach.high[:, None])
    added = torch.where(cut, worst, -slope * (step["center"] / spread)).sum(dim=(2, 3))
    size = x.magnitude() / spread + (step["center"] / spread).abs()
    return part, added, (8 + size.shape[2]) * _EPS * _dot(slope.abs(), size)


def _relu_back(step: Mapping[str, Any], slope: Tensor, x: Range) -> tuple[Tensor, Tensor, Tensor]:
    """Bound from below: where the coefficient is negative, by the chord over the range.

    Elsewhere by the line 0 or x, whichever leaves less area.
    """
    chord = (x.high / (x.high - x.low).clamp(min=_TINY)).clamp(0, 1)
    chord = torch.where(x.low >= 0, 1.0, torch.where(x.high <= 0, 0.0, chord))
    lift = torch.maximum(-chord * x.low, x.high - chord * x.high).clamp(min=0)
    lift = torch.where((x.low >= 0) | (x.high <= 0), 0.0, lift)
    floor = torch.where(x.high > -x.low, 1.0, 0.0)
    floor = torch.where(x.low >= 0, 1.0, torch.where(x.high <= 0, 0.0, floor))
    up, down = slope.clamp(max=0), slope.clamp(min=0)
    size = 8 * _EPS * _dot(slope.abs(), x.magnitude() + lift)
    return up * chord[:, None] + down * floor[:, None], _dot(up, lift), size


_VALUE: dict[str, Callable[..., Tensor]] = {
    "scale": _scale,
    "affine": _affine,
    "relu": lambda step, x: x.clamp(min=0),
    "subtract": lambda step, x, y: x - y,
    "mixture": lambda step, z, y: (z.softmax(dim=2).transpose(1, 2) * y).sum(dim=1, keepdim=True),
}
_RANGE: dict[str, Callable[..., Range]] = {
    "scale": _scale_range,
    "affine": _affine_range,
    "relu": lambda step, x: Range(x.low.clamp(min=0), x.high.clamp(min=0)),
    "subtract": lambda step, x, y: Range(x.low - y.high, x.high - y.low).widened(
        4 * _EPS * (x.magnitude() + y.magnitude())
    ),
}
_BACK: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {
    "scale": _scale_back,
    "affine": _affine_back,
    "relu": _relu_back,
}
