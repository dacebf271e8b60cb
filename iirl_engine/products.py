"""Products of points and queries, and bounds that hold however they are rounded."""

from __future__ import annotations

import torch
from torch import Tensor

# The point p nearest to a query q has the largest score q.p - |p|^2 / 2. A dot product of d + 2
# numbers, summed in any order, is wrong by at most (d + 2) u / (1 - (d + 2) u) times that of their
# magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and
# rounding p, q and |p|^2 to a precision of unit roundoff u adds a few u more. So with
# e = c (|q| |p| + |p|^2 / 2) and c = (d + 16) u, the score lies between the computed
# q.p - |p|^2 / 2 - e and q.p - |p|^2 / 2 + e. Both bounds are products of longer vectors:
# (p, c |p|, -(1 - c) |p|^2 / 2) with (q, |q|, 1) or with (q, -|q|, -(1 + c) / (1 - c)).


def slack_of(width: int, kind: torch.dtype) -> float:
    """Return c, of which the bounds below are made; a tenth more, for terms of second order."""
    return 1.1 * (width + 16) * torch.finfo(kind).eps / 2


def for_bounds(points: Tensor, kind: torch.dtype = torch.float64) -> Tensor:
    """Return points `[n, d]` with what bounds of scores computed in `kind` need, `[n, d + 2]`."""
    slack = slack_of(points.shape[1], kind)
    norm = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    return torch.cat([points, slack * norm, (slack - 1) * norm.square() / 2], dim=1)


def bounding(queries: Tensor, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return what multiplies points to an upper bound and to a lower one, `[m, d + 2]` each."""
    slack = slack_of(queries.shape[1], kind)
    norm = torch.linalg.vector_norm(queries, dim=1, keepdim=True)
    one = torch.ones_like(norm)
    upper = torch.cat([queries, norm, one], dim=1)
    lower = torch.cat([queries, -norm, one * (1 + slack) / (1 - slack)], dim=1)
    return upper.to(kind), lower.to(kind)


def kth_highest(bounds: Tensor, k: int) -> Tensor:
    """Return the k-th highest `[m]` of `bounds [m, c]`."""
    return bounds.topk(k, dim=1, sorted=False).values.amin(dim=1)


def rounding(queries: Tensor) -> Tensor:
    """Return by how much scores must differ `[m]` for distances in float64 to tell them apart."""
    width, smallest = queries.shape[1], torch.finfo(torch.float32).tiny
    norm: Tensor = torch.linalg.vector_norm(queries, dim=1)
    return 4 * slack_of(width, torch.float64) * norm.square() + 4 * smallest * (width + norm)


def float32_is_kept() -> bool:
    """Tell whether torch multiplies float32 as such; it can be set to round more."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:
        return torch.get_float32_matmul_precision() == "highest"
    precision: str = matmul.fp32_precision
    return precision in ("none", "ieee")


# oneDNN's product is the faster one on processors that MKL does not know; it is torch's own
# affair how to call it, so it may be gone.
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def product(points: Tensor, queries: Tensor) -> Tensor:
    """Return `points [n, d] @ queries [m, d].T`."""
    if _onednn is None or points.dtype != torch.float32:
        return points @ queries.T
    found: Tensor = _onednn(points, queries, None, "none", [], "")
    return found
