"""Walking from a candidate along the directions in which its error of reconstruction hardly grows.

The endorsed states around a fixed point z* of an autoencoder fill an ellipsoid |M (z - z*)|^2 <= L,
M the Jacobian of the error. It is long where M has a small singular value, and its ends are other
flaws than its middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from iirl_auditors.structure_aware.candidates import Candidates

_HOPS = 6
# Length of a hop, in units of the reach: three of them lead to another flaw.
_LENGTH = 0.8


def walk(candidates: Candidates, rows: Tensor, generator: torch.Generator) -> None:
    """Walk some hops from each of the candidates in `rows`, and gather what is found."""
    chosen = [candidates.codes[row] for row in rows.tolist()]
    for expert in range(candidates.experts.count):
        codes = [code for owner, code in chosen if owner == expert]
        if codes:
            _walk(candidates, torch.stack(codes), expert, generator)
    candidates.settle()


def _walk(candidates: Candidates, codes: Tensor, expert: int, generator: torch.Generator) -> None:
    by_state, by_error, wrong = jacobians(candidates, codes, expert)
    steepness, directions = flat_directions(by_state, by_error)
    # Directions that stay endorsed for two reaches are as good as flat.
    endorsed = (candidates.limit * wrong.shape[1]) ** 0.5
    taste = torch.randn(steepness.shape, dtype=torch.float64, generator=generator)
    taste = taste / (2 * candidates.reach * steepness / endorsed + 0.3)
    step = (directions @ taste[:, :, None])[:, :, 0]
    length = torch.linalg.vector_norm((by_state @ step[:, :, None])[:, :, 0], dim=1, keepdim=True)
    step = _LENGTH * candidates.reach * step / length.clamp(min=1e-300)
    back = torch.linalg.pinv(by_error, rtol=1e-3)
    for _ in range(_HOPS):
        if not len(codes):
            return
        codes = codes + step
        states, wrong, _ = candidates.error(codes, expert)
        small = candidates.gather(states, wrong, codes, expert)
        astray = (~small).nonzero()[:, 0]
        if len(astray):  # one step of Gauss and Newton back into the valley
            mended = codes[astray] - (back[astray] @ wrong[astray][:, :, None])[:, :, 0]
            states, wrong, _ = candidates.error(mended, expert)
            small[astray] = candidates.gather(states, wrong, mended, expert)
            codes[astray] = mended
        codes, step, back = codes[small], step[small], back[small]


def jacobians(candidates: Candidates, codes: Tensor, expert: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Jacobians of the state and of its error by the code, `[n, d, b]`, and the error.

    By forward differences; costs one and a half queries for each code and each of its entries.
    """
    states, wrong, _ = candidates.error(codes, expert)
    small = 1e-3 * codes.abs().mean().clamp(min=1e-6)
    moved = codes[:, None, :] + small * torch.eye(codes.shape[1], dtype=codes.dtype)
    moved_states, moved_wrong, _ = candidates.error(moved.flatten(0, 1), expert)
    by_state, by_error = (
        ((moved.view(*codes.shape, -1) - still[:, None, :]) / small).mT
        for moved, still in ((moved_states, states), (moved_wrong, wrong))
    )
    return by_state, by_error, wrong


def flat_directions(by_state: Tensor, by_error: Tensor) -> tuple[Tensor, Tensor]:
    """Return how the error grows `[n, b]`, ascending, along directions `[n, b, b]` in the code.

    The generalised singular vectors of the two Jacobians: column j moves the state by a length of
    1 and the error by the j-th number.
    """
    metric = by_state.mT @ by_state
    scale = metric.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] + 1e-300
    identity = torch.eye(metric.shape[1], dtype=metric.dtype)
    lower = torch.linalg.cholesky(metric + 1e-6 * scale * identity)
    inverse = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    squared, vectors = torch.linalg.eigh(inverse @ (by_error.mT @ by_error) @ inverse.mT)
    return squared.clamp(min=0).sqrt(), inverse.mT @ vectors
