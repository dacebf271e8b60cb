"""What a reward can be over boxes of states, as the checker of certificates sees it: NumPy alone.

Every value is a form: v = c + A t + e for t in [-1, 1]^q, the place in a box, and |e| <= r. Each
operation adds to r what it may round: a sum of n products errs by at most n 2^-53 of the sum of
their magnitudes (Higham 2002, section 3.1), counted here twice over; NumPy's exp and sqrt err by a
few units in the last place, counted as 1e-12 of the value. No prover shares this code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_EPS, _UP, _TINY, _SLACK = 2.0**-52, 1 + 2.0**-40, 1e-290, 1e-12


class Form(NamedTuple):
    """c `[n, k, m]`, A `[n, k, m, q]` and r `[n, k, m]`."""

    c: Any
    a: Any
    r: Any

    def size(self) -> Any:
        return (np.abs(self.a).sum(axis=-1) + self.r) * _UP + _TINY

    def range(self) -> Any:
        half = self.size()
        return np.nextafter(self.c - half, -np.inf), np.nextafter(self.c + half, np.inf)

    def rounded(self, error: Any, terms: int = 8) -> Form:
        wider = (self.r + (terms + self.a.shape[-1]) * _EPS * error) * _UP + _TINY
        return Form(self.c, self.a, wider)


def boxes(low: Any, high: Any, origin: Any, axes: Any) -> Form:
    """Return the states origin + u axes, `[n, 1, d]`, for u in boxes `[n, q]`.

    `origin` and `axes` are `[d]` and `[q, d]`, or one of each for every box.
    """
    middle = low / 2 + high / 2
    half = np.nextafter(np.maximum(high - middle, middle - low), np.inf)
    size = np.abs(origin)[..., None, :] + (np.abs(middle) + half)[:, None] @ np.abs(axes)
    c, a = origin[..., None, :] + middle[:, None] @ axes, (half[:, :, None] * axes)
    return Form(c, a.transpose(0, 2, 1)[:, None], 0 * c).rounded(size, 8 + axes.shape[-2])


def _mixture(z: Form, y: Form) -> Form:
    """Return Σ_k w_k y_k with w = softmax(z): |w_k''| <= w_k max |change of z_j - z_k|^2."""
    zc, za, zr, zs = z.c[:, 0], z.a[:, 0], z.r[:, 0], np.abs(z.c[:, 0]) + z.size()[:, 0]
    apart = Form(zc[:, :, None] - zc[:, None], za[:, :, None] - za[:, None], zr[:, None])
    apart = apart._replace(r=zr[:, :, None] + zr[:, None]).rounded(zs[:, :, None] + zs[:, None])
    w, least, most = (1 / np.exp(-side).sum(axis=2) for side in (apart.c, *apart.range()))
    blur = np.maximum(most - w, w - least) + _SLACK * most
    bend = most * np.square(apart.size().max(axis=(1, 2)))[:, None] * 0.51 + _SLACK * most
    bend += w * np.einsum("nj,nkj->nk", w, apart.r + _SLACK * apart.size())
    line = np.einsum("nk,nj,nkjq->nkq", w, w, apart.a) * (bend < blur)[..., None]
    p = np.einsum("nk,nkm->nm", w, y.c)[:, None]  # any p will do: the weights add up to 1
    g, wide, tilt = y.c - p, y.size(), np.abs(line).sum(axis=2)[..., None]
    a = np.einsum("nk,nkmq->nmq", w, y.a) + np.einsum("nkm,nkq->nmq", g, line)
    r = w[..., None] * y.r + tilt * wide + np.minimum(bend, blur)[..., None] * (np.abs(g) + wide)
    c = p + np.einsum("nk,nkm->nm", w, g)[:, None]
    error = ((np.abs(y.c) + np.abs(p) + wide) * (1 + tilt)).sum(axis=1, keepdims=True)
    return Form(c, a[:, None], r.sum(axis=1, keepdims=True)).rounded(error, 8 * y.c.shape[1] + 24)


class Reward:
    """Upper bounds of a reward, from what its release's manifest and tensors say."""

    def __init__(self, parts: Any, corrections: Any, tensors: Any) -> None:
        self.parts, self.corrections, self.tensors = parts, corrections, tensors

    def holds(self, state: Form, floor: float, margin: float) -> Any:
        """Return `[2, n]`: whether R <= floor where norms forbid, and whether none forbids.

        The norm `support` forbids what lies `margin` beyond its boundary.
        """
        norms = {name: self._violation(name, state) for name in self.parts["norms"]}
        base, added = self._base_high(self._loss_low(state)), self._kernels_high(state)
        holds = np.ones((2, len(base)), bool)
        for name, (_, most) in norms.items():
            limit = margin if (self.parts["norms"][name] or {}).get("op") == "support" else 0.0
            kept = np.ones(len(base))
            for fade in (entry for entry in self.corrections if entry["kind"] == "fade"):
                v, end = norms[fade["norm"]][0], fade["end"]
                v = np.maximum(v, limit) if fade["norm"] == name else v  # where this norm forbids
                share = np.clip((v - fade["start"]) / (end - fade["start"]) - _SLACK, 0, 1)
                kept -= np.where(v >= end, 1, share**2 * (3 - 2 * share) - _SLACK)
            left = np.where(kept > 0, base * np.maximum(kept, _TINY) + _SLACK, 0)
            holds &= [(most <= limit) | (np.minimum(left + added, 1) <= floor), most <= limit]
        return holds

    def _kernels_high(self, state: Form) -> Any:
        """Return lift minus suppression at most: kernels fall with distance."""
        total, reach = np.zeros(len(state.c)), np.hypot.reduce(state.size()[:, 0], axis=1)
        for entry in (entry for entry in self.corrections if entry["kind"] == "kernels"):
            parts = (f"correction.{entry['id']}.{n}" for n in ("centers", "radii", "strengths"))
            centers, radii, strengths = (self.tensors[part] for part in parts)
            sign = -1 if entry.get("effect") == "lift" else 1
            apart = np.sqrt(np.square(state.c - centers).sum(axis=2)) + sign * reach[:, None]
            error = _SLACK * (np.abs(apart) + 2 * reach[:, None]) / radii
            r = np.maximum(apart / radii + sign * error, 0)
            phi = np.maximum(1 - r, 0) ** 4 * (4 * r + 1)
            if entry["profile"] == "gaussian":
                phi = np.exp(-r * r / 2) * (r < 7.434)
            total -= sign * phi @ strengths * (1 - sign * (_SLACK + len(radii) * _EPS))
        return total

    def _violation(self, name: str, state: Form) -> Any:
        step, x, reach = self.parts["norms"][name], state.c[:, 0], state.size()[:, 0]
        if step is None:  # it may forbid everything, or nothing
            return np.full(len(x), -np.inf), np.full(len(x), np.inf)
        if step["op"] == "box":
            low, high, of = np.array(step["low"]), np.array(step["high"]), step["columns"]
            wide = reach[:, of] + _SLACK * (np.abs(x[:, of]) + np.abs(low) + np.abs(high))
            out = np.abs(x[:, of] - (low / 2 + high / 2)) - (high / 2 - low / 2)
            least, most = (out - wide).max(axis=1), (out + wide).max(axis=1)
            return (-most, -least) if step["forbid"] else (least, most)
        if step["op"] == "linear":
            a, b, unit = np.array(step["a"]), step["b"], np.hypot.reduce(step["a"])
            wide = reach @ np.abs(a) + _SLACK * (np.abs(x) @ np.abs(a) + abs(b))
            return (x @ a - b - wide) / unit, (x @ a - b + wide) / unit
        if step["op"] != "support":
            raise ValueError(f"unknown norm {step['op']!r}")
        (limit,), states = (
            self.tensors[f"norm.{name}.{step['boundary']}"],
            self.tensors["demonstrations.states"],
        )
        apart = np.sqrt(np.square(state.c - states).sum(axis=2)).min(axis=1)
        wide = np.hypot.reduce(reach, axis=1) * (1 + _SLACK) + _SLACK * (apart + abs(limit))
        return apart - limit - wide, apart - limit + wide

    def _base_high(self, loss: Any) -> Any:
        step = self.parts["mapping"] or {"op": None}
        t = {word: self.tensors.get(f"mapping.{name}") for word, name in step.items()}
        if step["op"] == "exp" and np.diff(t["limits"]) > 0 and step["steepness"] >= 0:
            (low, high), steep = t["limits"], step["steepness"]
            fall = (loss - low) / (high - low) * steep
            error = 1 + np.abs(fall) + steep * (abs(low) + abs(high)) / (high - low)
            return np.minimum(np.exp(_SLACK * error - fall) + _SLACK, 1)
        if step["op"] == "linear" and t["cap"] > 0:
            return np.minimum(1 - np.clip(loss / t["cap"], 0, 1) + _SLACK, 1)
        if step["op"] == "isotonic" and (np.diff(t["values"]) <= 0).all():
            return np.minimum(np.interp(loss, t["knots"], t["values"]) + _SLACK, 1)
        if step["op"] == "sigmoid" and (t["shape"] > 0).all():
            rise, start = (loss - t["shape"][0]) / t["shape"][1], t["shape"][0] / t["shape"][1]
            least = rise - _SLACK * (1 + np.abs(rise) + start)
            return np.minimum((1 + np.exp(-start)) / (1 + np.exp(least)) + _SLACK, 1)
        return np.full(len(loss), np.inf)

    def _loss_low(self, state: Form) -> Any:
        values = [state]
        for step in self.parts["loss"] or []:
            of = [values[i] for i in np.atleast_1d(step["of"])]
            tensors = {word: self.tensors.get(f"encoder.{name}") for word, name in step.items()}
            if step["op"] == "mean-square":
                return _mean_square(*(part[:, 0] for part in of[0]))
            values.append(value(step, of, tensors))
        return np.full(len(state.c), -np.inf)


def value(step: Any, of: list[Form], t: Any) -> Form:
    """Return what an operation of a formula makes of earlier values."""
    x, y = of[0], of[-1]
    size = np.abs(x.c) + x.size()
    if step["op"] == "scale":
        s, far = np.abs(t["spread"]), step["farthest"]
        z = Form(x.c / s - t["center"] / s, x.a / s[:, None], x.r / s)
        z = z.rounded((size + np.abs(t["center"])) / s)
        uncut = (z.range()[0] >= -far) & (z.range()[1] <= far)
        return Form(uncut * z.c, uncut[..., None] * z.a, np.where(uncut, z.r, far))
    if step["op"] == "affine":
        w, b = t["weight"].reshape(-1, *t["weight"].shape[-2:]), t["bias"]
        each = "kmi,nji" if x.c.shape[1] == 1 else "kmi,nki"
        c, a = np.einsum(f"{each}->nkm", w, x.c) + b, np.einsum(f"{each}q->nkmq", w, x.a)
        r, error = (np.einsum(f"{each}->nkm", np.abs(w), part) for part in (x.r, size))
        return Form(c, a, r).rounded(error + np.abs(b), w.shape[2] + 8)
    if step["op"] == "relu":  # from slope x to slope x + gap
        low, high = x.range()
        slope = np.clip(high / np.maximum(high - low, _TINY), 0, 1)
        slope = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, slope))
        gap = np.maximum(np.maximum(-slope * low, high - slope * high), 0)
        z = Form(slope * x.c + gap / 2, slope[..., None] * x.a, slope * x.r + gap / 2)
        return z.rounded(size + gap)
    if step["op"] == "subtract":
        z = Form(x.c - y.c, x.a - y.a, x.r + y.r)
        return z.rounded(size + np.abs(y.c) + y.size())
    if step["op"] == "mixture":
        return _mixture(x, y)
    raise ValueError(f"unknown operation {step['op']!r}")


def _mean_square(c: Any, a: Any, r: Any) -> Any:
    """Bound it from below: by each coordinate, and by |x| >= v.x / |v| with v = c."""
    low, high = Form(c, a, r).range()
    each = np.square(np.maximum(np.maximum(low, -high), 0)).mean(axis=1)
    v = c / np.maximum(np.abs(c).max(axis=1, keepdims=True), _TINY)
    size = (np.abs(v) * (np.abs(c) + Form(c, a, r).size())).sum(axis=1)
    lost = np.abs(np.einsum("nm,nmq->nq", v, a)).sum(axis=1) + (np.abs(v) * r).sum(axis=1)
    lost = (lost + sum(a.shape[1:], 8) * _EPS * size) * _UP
    along = np.square(np.maximum((v * c).sum(axis=1) - lost, 0))
    along = along / np.maximum(np.square(v).sum(axis=1), 1) / c.shape[1]
    return np.maximum(each, along) * (1 - _SLACK)
