"""Re-checks a certificate (docs/certificates.md) against its release: no plugin, torch or prover.

Numbers are balls of Arb (Johansson 2017): they hold what exact arithmetic gives, and a comparison
is true only of all that they hold, so never of NaN. A table `[k, m]` in a box is `[k, m, 1 + q]`
balls x: at a place t of the box, t in [-1, 1]^q, it is y[..., 0] + y[..., 1:] t for a y in x.
"""

import hashlib
import json
from operator import methodcaller  # arb.mid itself takes the memory of any x for a ball
from typing import Any

import numpy as np
from flint import arb
from safetensors.numpy import load
from scipy.spatial.distance import cdist

FORMAT = 2
_ABOUT = {"id", "refiner", "round", "count", "closes", "approved"}
_WORDS = {"fade": {"kind", "norm", "start", "end"}, "kernels": {"kind", "profile", "effect"}}
_SHARE, _SIDES = arb(0.5, 0.5), arb(0, 1)  # what can be anything from 0 to 1, and from -1 to 1
_ONCE: Any = {"object_pairs_hook": lambda o: dict(zip(dict(o), (v for _, v in o), strict=True))}
ball, most = np.frompyfunc(arb, 1, 1), np.frompyfunc(lambda a, b: arb(a).max(b), 2, 1)
middle, lower, upper = (np.frompyfunc(methodcaller(f), 1, 1) for f in ("mid", "lower", "upper"))


class Refused(Exception):
    """The certificate does not hold; the message says why."""


def check(manifest: bytes, tensors: bytes, certificate: bytes) -> None:
    """Refuse a certificate that does not hold for the release with these files."""
    try:
        said, release = (json.loads(b, **_ONCE) for b in (certificate, manifest))  # no key twice
        seal, *own = (hashlib.sha256(b).hexdigest() for b in (certificate[77:], manifest, tensors))
        if certificate[:77] != b'{"sha256":"%s",' % seal.encode() or said["format"] != FORMAT:
            raise Refused(f"it was changed after it was made, or is not of format {FORMAT}")
        if [said["release"], release["files"]["tensors.safetensors"]] != own:
            raise Refused("it is for another release")
        margin, floor, regions = said["margin"], release["floor"], said["regions"]
        if not (0 <= margin <= 1e308 and 0 <= floor < 1 and regions and len(said) == 5):
            raise Refused("it claims nothing, or what is not known")
        reward = Reward(release["formula"], release["corrections"], load(tensors))
        d = len(release["domain"]["low"])
        for part in regions:
            given = release["domain"] | {"origin": np.zeros(d), "axes": np.eye(d)} | part
            frame = np.reshape(given["origin"], d), np.reshape(given["axes"], (-1, d))
            tree, ends = str.__iter__(part["tree"]), np.array([given["low"], given["high"]], float)
            boxes = (box(low, high, *frame) for low, high in leaves(tree, *ends.reshape(2, -1)))
            if not all(reward.holds(x, floor, margin) for x in boxes) or [*tree] or len(given) != 5:
                raise Refused("a leaf is not proved, or what is said is no part of a region")
    except Exception as error:
        raise Refused(error if isinstance(error, Refused) else repr(error)) from error


def leaves(tree: Any, low: Any, high: Any) -> Any:
    """Yield the corners of the leaves of a tree: `0`, or an axis from `1` and then both halves."""
    if (node := next(tree)) == "0":
        yield low, high
    else:
        left, right, axis = high.copy(), low.copy(), range(len(low)).index(ord(node) - ord("1"))
        left[axis] = right[axis] = low[axis] / 2 + high[axis] / 2
        yield from leaves(tree, low, left)
        yield from leaves(tree, right, high)


def box(low: Any, high: Any, origin: Any, axes: Any) -> Any:
    """Return the states origin + u axes for low <= u <= high."""
    low, high = ball(low) / 2, ball(high) / 2
    return np.column_stack([origin + axes.T @ (low + high), axes.T * (high - low)])[None]


def ranges(x: Any) -> Any:
    """Return what each number of a table can be in the box."""
    return x[..., 0] + np.abs(x[..., 1:]).sum(axis=-1) * _SIDES


def distances(x: Any, points: Any, pick: Any = np.asarray) -> Any:
    """Return how far a state is from points: as c is, to 1e-12 in float64, +- the box's radius."""
    c = middle(x[0, :, 0]).astype(float)
    radius = np.square(upper(np.abs(ranges(x[0]) - c))).sum().sqrt()
    far = np.where((far := cdist([c], points)[0]) < np.inf, far, np.nan)
    return pick(far) * arb(1, 1e-12) + (radius + 1e-150) * _SIDES


def mixture(z: Any, y: Any) -> Any:
    """Return sum_k w_k y_k, w = softmax(z), by the mean value: w(t) = w(0) + w'(somewhere) t."""
    u = z - z[:, None]  # w_k = 1 / sum_j exp(u_j) and w_k' = -w_k sum_j w_j u_j', u_j = z_j - z_k
    ends = u[..., 0], upper(r := ranges(u)), lower(r)
    w, low, high = (1 / np.exp(end).sum(axis=1)[:, None] for end in ends)
    x, somewhere = (w[..., None] * y).sum(axis=0), low + (high - low) * _SHARE
    # The w_k' add up to 0: what they weigh may count from anywhere, here from the middle.
    x[:, 1:] -= (somewhere * (ranges(y) - x[:, 0])).T @ (somewhere * u[..., 1:]).sum(axis=1)
    return x[None]


class Reward:
    """Bounds of a reward, from what its release's manifest and tensors say."""

    def __init__(self, parts: Any, corrections: Any, tensors: Any) -> None:
        for entry in corrections:
            if unknown := set(entry) - _ABOUT - _WORDS.get(entry["kind"], set()):
                raise Refused(f"correction {entry['id']!r} has the unknown {sorted(unknown)}")
        self.parts, self.corrections = parts, corrections
        self.tensors = {n: a for n, a in tensors.items() if a.dtype == float}
        self.encoder = {n[8:]: ball(a) for n, a in self.tensors.items() if n.startswith("encoder.")}

    def loss_low(self, state: Any) -> Any:
        """Bound the loss |x|^2 / m from below: by each number, and by |x| >= v.x / |v| for a v."""
        values = [state]
        for step in self.parts["loss"] or ():
            x, *rest = (values[i] for i in np.atleast_1d(step["of"]))
            t = {w: self.encoder[n] for w, n in step.items() if w not in ("op", "of", "farthest")}
            match (step["op"], *sorted(t)):
                case ("affine", "bias", "weight"):
                    x = t["weight"] @ x
                    x[..., 0] += t["bias"]
                case ("scale", "center", "spread"):
                    x = x / t["spread"][:, None]
                    x[..., 0] -= t["center"] / t["spread"]
                    cut = ~(np.abs(x).sum(axis=-1) <= step["farthest"])
                    x[cut], x[cut, 0] = 0, step["farthest"] * _SIDES
                case ("relu",):  # slope x, any slope in [0, 1], and at most its gap at an end of x
                    low, high = -most(-lower(r := ranges(x)), 0), most(upper(r), 0)
                    slope = high / (high - low + 1e-300)
                    x = slope[..., None] * x
                    x[..., 0] += most(-slope * low, high - slope * high) * _SHARE
                case ("subtract",):
                    x = x - rest[0]
                case ("mixture",):
                    x = mixture(*x, *rest)
                case ("mean-square",) if step is self.parts["loss"][-1] and len(x) == 1:
                    v, each = middle(x[0, :, 0]), sum(r.abs_lower() ** 2 for r in ranges(x[0]))
                    return lower(max(each, lower(ranges(v @ x[0])).max(0) ** 2 / (v @ v)) / len(v))
                case words:
                    raise Refused(f"nothing is known of the operation {words}")
            values.append(x)
        return arb("-inf")

    def base_high(self, loss: arb) -> Any:
        """Bound g(L) from above for L >= loss: as g is monotone, at the ends."""
        step, ends = self.parts["mapping"] or {"op": None}, np.array([loss, arb("inf")])
        t = {w: ball(self.tensors.get(f"mapping.{n}", n)) for w, n in step.items() if w != "op"}
        match (step["op"], *sorted(t)):
            case ("exp", "limits", "steepness"):
                g = np.exp((t["limits"][0] - ends) / np.diff(t["limits"]) * t["steepness"])
            case ("linear", "cap"):
                g = 1 - ends / t["cap"].item()
            case ("sigmoid", "shape"):
                half, width = t["shape"]
                g = (1 + np.exp(-half / width)) / (1 + np.exp((ends - half) / width))
            case ("isotonic", _, _) if (np.diff([t["knots"], -t["values"]]) >= 0).all():
                rest = most(1 - most((loss - t["knots"][:-1]) / np.diff(t["knots"]), 0), 0)
                g = t["values"][-1:] - np.diff(t["values"]) @ rest
            case _:
                return arb("inf")
        return most.reduce(g).max(0).min(1)

    def violation(self, name: str, x: Any) -> Any:
        """Return what a norm's violation can be in the box."""
        step, s = self.parts["norms"][name] or {"op": None}, ranges(x[0])
        match (step["op"], *sorted(step)):
            case ("box", "columns", "forbid", "high", "low", "op"):
                s = s[np.array(step["columns"], int)]
                v = most.reduce([*(step["low"] - s), *(s - step["high"])])
                return -v if step["forbid"] else v
            case ("linear", "a", "b", "op"):
                a = ball(step["a"])
                return (ranges(a @ x[0]) - step["b"]) / (a @ a).sqrt()
            case ("support", "boundary", "op"):
                (limit,) = self.tensors[f"norm.{name}.{step['boundary']}"]
                return distances(x, self.tensors["demonstrations.states"], np.min) - limit
        return arb(0, "inf")

    def lifts(self, x: Any) -> Any:
        """Yield what each list of kernels adds to the reward at most: they fall with distance."""
        for entry in (e for e in self.corrections if e["kind"] == "kernels"):
            names = (f"correction.{entry['id']}.{n}" for n in ("centers", "radii", "strengths"))
            centers, radii, strengths = (self.tensors[name] for name in names)
            sign, side = {None: (-1, upper), "lift": (1, lower)}[entry.get("effect")]
            r = most(side(distances(x, centers) / np.where(radii > 0, radii, np.nan)), 0)
            bumps = {"wendland": most(1 - r, 0) ** 4 * (4 * r + 1)}
            bumps["gaussian"] = np.exp(-r * r / 2) * ~(r >= 7.434)
            yield sign * bumps[entry["profile"]] @ np.where(strengths >= 0, strengths, np.nan)

    def holds(self, x: Any, floor: float, margin: float) -> bool:
        """Return whether R <= floor wherever a norm forbids a state of the box."""
        for name, step in self.parts["norms"].items():
            if self.violation(name, x) <= (margin if step and step["op"] == "support" else 0):
                continue
            kept = arb(1)
            for f in (e for e in self.corrections if e["kind"] == "fade" and e["start"] < e["end"]):
                v = arb(0) if f["norm"] == name else lower(self.violation(f["norm"], x))
                share = ((v - f["start"]) / (arb(f["end"]) - f["start"])).max(0)
                kept -= 1 if v >= f["end"] else share * share * (3 - 2 * share)
            base = arb(0) if kept <= 0 else self.base_high(self.loss_low(x)) * kept
            if not base + sum(self.lifts(x)) <= floor:
                return False
        return True
