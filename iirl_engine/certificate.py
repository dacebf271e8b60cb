"""Re-checks a certificate against the files of its release: no plugin, no torch, no prover.

A certificate is JSON. Its first field is the SHA-256 of all that follows, so that no byte can
change unseen; the others bind it to a release and say what is proved of it:

- `format`, 1; `release`, the SHA-256 of the manifest; `floor`, `domain` and `norms`, as there
- `margin`: how far beyond its boundary the norm `support` forbids
- `regions`: boxes, each with its `tree`; `low` and `high` are the domain's where not given, and
  with `origin` and `axes` the box is one of states origin + u axes

A tree lists its nodes in preorder, one byte each, as base64: a leaf where the reward is at most
the floor wherever a norm forbids, a leaf where no norm forbids, or 2 + the axis that is halved.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from iirl_engine.enclosure import Reward, boxes

FORMAT, PROVED, ALLOWED, SPLIT = 1, 0, 1, 2
_TILE = 2**21
_UNREADABLE = ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError


class Refused(Exception):
    """The certificate does not hold; the message says why."""


def sealed(body: dict[str, Any]) -> bytes:
    """Return the bytes of a certificate that says this, with their SHA-256 in front."""
    rest = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()[1:] + b"\n"
    return b'{"sha256":"%s",' % hashlib.sha256(rest).hexdigest().encode() + rest


def check(manifest: bytes, tensors: bytes, certificate: bytes) -> dict[str, Any]:
    """Return what a certificate proves of the release with these files.

    Raises
    ------
    Refused
        When it proves nothing, for whatever reason.
    """
    try:
        said = json.loads(certificate)
        said.pop("sha256")
        if certificate != sealed(said):
            raise Refused("it was changed after it was made")
        with np.errstate(all="ignore"):
            return _checked(manifest, tensors, said)
    except (*_UNREADABLE, SafetensorError) as error:
        raise Refused(f"it cannot be read: {type(error).__name__}: {error}") from error


def _checked(manifest: bytes, tensors: bytes, said: dict[str, Any]) -> dict[str, Any]:
    release, digest = json.loads(manifest), hashlib.sha256(tensors).hexdigest()
    floor, margin, norms = release["floor"], said["margin"], list(release["formula"]["norms"])
    for what, claimed, true in (
        ("format", said["format"], FORMAT),
        ("release", said["release"], hashlib.sha256(manifest).hexdigest()),
        ("tensors", release["files"]["tensors.safetensors"], digest),
        ("floor", said["floor"], floor),
        ("domain", said["domain"], release["domain"]),
        ("norms", said["norms"], norms),
    ):
        if claimed != true:
            raise Refused(f"it is for another {what}: {claimed!s:.64}, not {true!s:.64}")
    if not (margin >= 0 and said["regions"]):
        raise Refused("it claims nothing")
    reward = Reward(release["formula"], release["corrections"], load(tensors))
    counts = [_region(reward, region, said, floor, margin) for region in said["regions"]]
    return {
        "release": said["release"],
        "floor": floor,
        "margin": margin,
        "norms": norms,
        "whole_domain": any(set(region) == {"tree"} for region in said["regions"]),
        "regions": len(counts),
        "leaves": sum(counts),
    }


def _region(reward: Reward, region: Any, said: Any, floor: float, margin: float) -> int:
    """Return how many leaves a region has, after each was confirmed."""
    low, high = (np.array(region.get(k, said["domain"][k]), float) for k in ("low", "high"))
    axes = np.array(region.get("axes", np.eye(len(low))), float)
    origin = np.array(region.get("origin", np.zeros(axes.shape[1])), float)
    if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
        raise Refused("a region is no box")
    lows, highs, kinds = leaves(base64.b64decode(region["tree"], validate=True), low, high)
    rows = max(1, _TILE // max(len(a) for a in reward.tensors.values()))
    for start in range(0, len(kinds), rows):
        part = slice(start, start + rows)
        state = boxes(lows[part], highs[part], origin, axes)
        proved, allowed = reward.holds(state, floor, margin)
        if not np.where(kinds[part] == PROVED, proved, allowed).all():
            raise Refused("a leaf is not proved")
    return len(kinds)


def leaves(tree: bytes, low: Any, high: Any) -> tuple[Any, Any, Any]:
    """Return lower and upper corners `[n, q]` and kinds `[n]` of a tree's leaves."""
    stack, found = [(low, high)], []
    for code in tree:
        low, high = stack.pop()
        if code < SPLIT:
            found.append((low, high, code))
            continue
        left, right = high.copy(), low.copy()
        left[code - SPLIT] = right[code - SPLIT] = low[code - SPLIT] / 2 + high[code - SPLIT] / 2
        stack += [(right, high), (low, left)]
    if stack:
        raise Refused("a subtree is missing")
    lows, highs, kinds = (np.array(part) for part in zip(*found, strict=True))
    return lows, highs, kinds
