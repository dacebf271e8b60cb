"""What a reward can be over boxes of states, as the checker of certificates sees it: NumPy alone.

A value is v = c + A t + e for t in [-1, 1]^q, the place in a box, and |e| <= r. Rounding adds to r:
n 2^-53 of the sum of the magnitudes of n products (Higham 2002, section 3.1), counted twice over,
and 1e-12 for exp and sqrt, which err by a few units in the last place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_EPS, _UP, _TINY, _SLACK = 2.0**-52, 1 + 2.0**-40, 1e-290, 1e-12
# What may be said of a correction: of a kind, or in words, that are not here nothing is proved.
_KNOWN = {"id", "refiner", "round", "count", "closes", "approved"}
_OF_KIND = {"fade": {"kind", "norm", "start", "end"}, "kernels": {"kind", "profile", "effect"}}


class Form(NamedTuple):
    """c `[n, m]`, A `[n, m, q]` and r `[n, m]`."""

    c: Any
    a: Any
    r: Any

    def size(self) -> Any:
        return (np.abs(self.a).sum(axis=2) + self.r) * _UP + _TINY

    def range(self) -> Any:
        half = self.size()
        return np.nextafter(self.c - half, -np.inf), np.nextafter(self.c + half, np.inf)


def affine(w: Any, x: Form, b: Any, blur: Any = 0.0, each: bool = False) -> Form:
    """Return W x + b, give or take blur, for `w [m, d]` or `[n, m, d]`; or w x number by number."""
    times: Any = np.multiply if each else lambda w, v: (w @ v[..., None])[..., 0]
    a = w[..., None] * x.a if each else w @ x.a
    error = times(np.abs(w), np.abs(x.c) + x.size()) + np.abs(b) + blur
    r = times(np.abs(w), x.r) + blur + (w.shape[-1] + a.shape[2] + 16) * _EPS * error
    return Form(times(w, x.c) + b, a, r * _UP + _TINY)


def boxes(low: Any, high: Any, origin: Any, axes: Any) -> Form:
    """Return the states origin + u axes, `[n, d]`, for u in boxes `[n, q]` and axes `[q, d]`."""
    middle = low / 2 + high / 2
    half = np.nextafter(np.maximum(high - middle, middle - low), np.inf)
    u = Form(middle, half[:, :, None] * np.eye(half.shape[1]), 0 * half)
    return affine(np.swapaxes(axes, -1, -2), u, origin)


def _mixture(z: Form, y: Form) -> Form:
    """Return Σ_k w_k y_k with w = softmax(z), by tangents where they are tighter than ranges."""
    (n, k), d = z.c.shape, y.c.shape[1] // z.c.shape[1]
    pairs = (np.eye(k)[:, None] - np.eye(k)).reshape(k * k, k)
    apart = affine(pairs, z, 0 * pairs[:, 0])
    sides = (side.reshape(n, k, k) for side in (apart.c, *apart.range()))
    w, least, most = (1 / np.exp(-side).sum(axis=2) for side in sides)
    moved = apart.size().reshape(n, k, k) + _SLACK
    # From one vector of logits to another, |w_k''| <= w_k max |change of z_j - z_k|^2.
    bend = most * np.square(moved.max(axis=(1, 2)))[:, None]
    free = np.maximum(most - w, w - least)
    line, blur = w * (bend < free), np.minimum(bend, free) + _SLACK * most
    rows = y.c.reshape(n, k, d)
    p = np.einsum("nk,nkd->nd", w, rows)
    g = rows - p[:, None]  # the weights add up to 1, whatever p is
    spread = y.size().reshape(n, k, d) + _SLACK * (np.abs(rows) + np.abs(p)[:, None])
    pull = line[..., None] * g
    tilt = pull - w[..., None] * pull.sum(axis=1, keepdims=True)
    leans = line * np.einsum("nj,nkj->nk", w, moved)
    rest = (blur[..., None] * (np.abs(g) + spread) + leans[..., None] * spread).sum(axis=1)
    wide = (w[:, None, :, None] * np.eye(d)[:, None]).reshape(n, d, k * d)
    both = Form(*(np.concatenate(parts, axis=1) for parts in zip(z, y, strict=True)))
    shift = p * (1 - w.sum(axis=1, keepdims=True)) - np.einsum("nkd,nk->nd", tilt, z.c)
    far = np.abs(z.c).max(axis=1) + moved.max(axis=(1, 2))
    rest += _SLACK * (np.abs(p) + np.abs(g).sum(axis=1) * (1 + far[:, None]))
    return affine(np.concatenate([tilt.transpose(0, 2, 1), wide], axis=2), both, shift, rest)


def value(step: Any, of: list[Form], t: Any) -> Form:
    """Return what an operation of a formula makes of earlier values."""
    x, y = of[0], of[-1]
    if step["op"] == "scale":
        s, far = np.abs(t["spread"]), step["farthest"]
        z = affine(1 / s, x, -t["center"] / s, each=True)
        uncut = (z.range()[0] >= -far) & (z.range()[1] <= far)
        return Form(uncut * z.c, uncut[..., None] * z.a, np.where(uncut, z.r, far))
    if step["op"] == "affine":
        w, d = t["weight"], t["weight"].shape[-1]
        if w.ndim == 3 and x.c.shape[1] > d:  # row by row
            w = (w[:, :, None] * np.eye(len(w))[:, None, :, None]).reshape(-1, len(w) * d)
        return affine(w.reshape(-1, w.shape[-1]), x, t["bias"].ravel())
    if step["op"] == "relu":  # from slope x to slope x + gap
        low, high = x.range()
        slope = np.where(low >= 0, 1.0, np.maximum(high, 0) / np.maximum(high - low, _TINY))
        gap = np.maximum(np.maximum(-slope * low, high - slope * high), 0) / 2
        return affine(slope, x, gap, gap, each=True)
    if step["op"] == "subtract":
        both = Form(*(np.concatenate(parts, axis=1) for parts in zip(x, y, strict=True)))
        unit = np.eye(x.c.shape[1])
        return affine(np.concatenate([unit, -unit], axis=1), both, 0 * unit[0])
    if step["op"] == "mixture":
        return _mixture(x, y)
    raise ValueError(f"unknown operation {step['op']!r}")


class Reward:
    """Upper bounds of a reward, from what its release's manifest and tensors say."""

    def __init__(self, parts: Any, corrections: Any, tensors: Any) -> None:
        for entry in corrections:
            if unknown := set(entry) - _KNOWN - _OF_KIND.get(entry["kind"], set()):
                what = f"kind {entry['kind']!r}" if "kind" in unknown else f"{sorted(unknown)}"
                raise ValueError(f"correction {entry['id']!r} has the unknown {what}")
        self.parts, self.corrections, self.tensors = parts, corrections, tensors

    def loss_low(self, state: Form) -> Any:
        """Bound the loss from below: by each coordinate, and by |x| >= v.x / |v| with v = c."""
        values = [state]
        for step in self.parts["loss"] or []:
            of = [values[i] for i in np.atleast_1d(step["of"])]
            if step["op"] == "mean-square":
                x, (low, high) = of[0], of[0].range()
                each = np.square(np.maximum(np.maximum(low, -high), 0)).mean(axis=1)
                v = x.c / np.maximum(np.abs(x.c).max(axis=1, keepdims=True), _TINY)
                along = affine(v[:, None], x, 0 * v[:, :1]).range()[0][:, 0]
                along = np.square(np.maximum(along, 0)) / np.maximum(np.square(v).sum(axis=1), 1)
                return np.maximum(each, along / v.shape[1]) * (1 - _SLACK)
            tensors = {word: self.tensors.get(f"encoder.{name}") for word, name in step.items()}
            values.append(value(step, of, tensors))
        return np.full(len(state.c), -np.inf)

    def base_high(self, loss: Any) -> Any:
        step = self.parts["mapping"] or {"op": None}
        t = {word: self.tensors.get(f"mapping.{name}") for word, name in step.items()}
        if step["op"] == "exp" and np.diff(t["limits"]) > 0 and step["steepness"] >= 0:
            (low, high), steep = t["limits"], step["steepness"]
            fall, size = (loss - low) / (high - low) * steep, steep * abs(low) / (high - low)
            g = np.exp(_SLACK * (1 + np.abs(fall) + size) - fall)
        elif step["op"] == "linear" and t["cap"] > 0:
            g = 1 - np.clip(loss / t["cap"], 0, 1)
        elif step["op"] == "isotonic" and (np.diff(t["values"]) <= 0).all():
            g = np.interp(loss, t["knots"], t["values"])
        elif step["op"] == "sigmoid" and (t["shape"] > 0).all():
            rise, start = (loss - t["shape"][0]) / t["shape"][1], t["shape"][0] / t["shape"][1]
            g = (1 + np.exp(-start)) / (1 + np.exp(rise - _SLACK * (1 + np.abs(rise) + start)))
        else:
            return np.full(len(loss), np.inf)
        return np.minimum(g + _SLACK, 1)

    def violation(self, name: str, state: Form) -> Any:
        step, x, reach = self.parts["norms"][name], state.c, state.size()
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
        if step["op"] == "support":
            (limit,) = self.tensors[f"norm.{name}.{step['boundary']}"]
            least, most = _distances(x, self.tensors["demonstrations.states"])
            wide = np.hypot.reduce(reach, axis=1) * (1 + _SLACK) + _SLACK * abs(limit)
            return least.min(axis=1) - limit - wide, most.min(axis=1) - limit + wide
        raise ValueError(f"unknown norm {step['op']!r}")

    def _kernels_high(self, state: Form) -> Any:
        """Return lift minus suppression at most: kernels fall with distance."""
        total, reach = np.zeros(len(state.c)), np.hypot.reduce(state.size(), axis=1)[:, None]
        for entry in self.corrections:
            if entry["kind"] != "kernels" or not entry["count"]:
                continue
            parts = (f"correction.{entry['id']}.{n}" for n in ("centers", "radii", "strengths"))
            centers, radii, strengths = (self.tensors[part] for part in parts)
            sign = -1 if entry.get("effect") == "lift" else 1
            apart = _distances(state.c, centers)[(1 + sign) // 2]
            r = np.maximum((apart + sign * reach * (1 + _SLACK)) / radii * (1 + sign * _SLACK), 0)
            phi = np.maximum(1 - r, 0) ** 4 * (4 * r + 1)
            if entry["profile"] == "gaussian":
                phi = np.exp(-r * r / 2) * (r < 7.434)
            total -= sign * phi @ strengths * (1 - sign * (_SLACK + len(radii) * _EPS))
        return total

    def holds(self, state: Form, floor: float, margin: float) -> Any:
        """Return `[2, n]`: whether R <= floor where norms forbid, and whether none forbids."""
        norms = {name: self.violation(name, state) for name in self.parts["norms"]}
        base, added = self.base_high(self.loss_low(state)), self._kernels_high(state)
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


def _distances(x: Any, points: Any) -> Any:
    """Return bounds of distances, `[n, k]` and `[n, k]`, from |x|^2 - 2 x.p + |p|^2."""
    at = points.mean(axis=0)
    q, p = x - at, points - at
    size = np.square(q).sum(axis=1)[:, None] + np.square(p).sum(axis=1)
    apart, error = size - 2 * q @ p.T, (8 * len(at) + 64) * _EPS * size
    low, high = (np.sqrt(np.maximum(apart + side * error, 0)) for side in (-1, 1))
    return low * (1 - _SLACK), high * (1 + _SLACK)
