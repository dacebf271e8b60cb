"""States that an expert nearly maps to itself: gathered unasked, asked about sparingly.

The error of reconstruction tells, up to a limit that few queries find, whether the reward endorses
a state. So a probe of autoencoders needs no query per state: it gathers candidates where norms
forbid, and asks in the end about as many as possible that lie far apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from iirl_auditors.spread import reach, spread, thinned
from iirl_engine.api import Autoencoders
from iirl_engine.target import Target

# Queries that are kept for asking about candidates, per anchor.
_PER_ANCHOR = 1.5
# Candidates nearer than this share of the reach are one.
_TWIN = 0.15
# In so few features codes are hardly narrower than states.
_FEW = 4
# States of a batch, about as many, that may be asked about for their error.
_SAMPLED = 8
# Queries, at first and then after each batch, that find out which errors are endorsed.
_FIRST, _LATER = 12, 3


class Enough(Exception):
    """What is left of the budget is kept for asking about candidates."""


class Candidates:
    """Forbidden states with a small error of reconstruction, each with its expert and code.

    Parameters
    ----------
    target
        The reward under audit; its encoder has autoencoders.
    experts
        These autoencoders.
    generator
        The auditor's own.
    """

    def __init__(
        self, target: Target, experts: Autoencoders, generator: np.random.Generator
    ) -> None:
        self.target, self.experts, self.generator = target, experts, generator
        self.reach = reach(target)
        self.limit = torch.inf
        """Largest error that the reward seems to endorse."""
        width = len(target.low)
        self.states = torch.empty((0, width), dtype=torch.float64)
        self.errors = torch.empty(0, dtype=torch.float64)
        self.codes: list[tuple[int, Tensor]] = []
        """Each candidate's expert, and its code there."""
        self._noted: list[tuple[Tensor, Tensor, Tensor, int]] = []
        self._low, self._high = target.low, target.high
        self._asked_error = torch.empty(0, dtype=torch.float64)
        self._endorsed = torch.empty(0, dtype=torch.bool)
        self._samples: list[tuple[Tensor, Tensor]] = []
        self._fresh: list[tuple[Tensor, Tensor]] = []
        self._reported = torch.empty((0, width), dtype=torch.float64)
        self._farthest: dict[int, float] = {}
        self.anchors = torch.empty(0, dtype=torch.int64)
        """Row numbers of candidates that lie farther than the reach from earlier ones."""

    def spend(self, price: float) -> None:
        """Make sure that so many queries can be spent and the reserve is left.

        Raises
        ------
        Enough
            When they cannot: the gathering is over.
        """
        if self.target.remaining < price + _FIRST + _PER_ANCHOR * len(self.anchors):
            raise Enough

    def uniform(self, count: int, expert: int, generator: torch.Generator) -> Tensor:
        """Return the codes `[count, b]` of uniform states; costs half a query each."""
        self.spend(count)
        share = torch.rand(count, len(self._low), dtype=torch.float64, generator=generator)
        return self.experts.code(self._low + share * (self._high - self._low), expert)

    def error(self, codes: Tensor, expert: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states D(z) `[n, d]` of codes, what is wrong with them, and E(D(z)) `[n, b]`.

        Wrong is D(z) - D(E(D(z))), `[n, d]`. Costs one and a half queries per code.
        """
        self.spend(1.5 * len(codes) + 2)
        states = self.experts.decode(codes, expert)
        again = self.experts.code(states, expert)
        return states, states - self.experts.decode(again, expert), again

    def iterate(self, codes: Tensor, expert: int) -> tuple[Tensor, Tensor]:
        """Return E(D(z)) `[n, b]` of codes, and which of them have a small error.

        Gathers what there is to gather. Costs one query per code, and half of one more where
        E(D(z)) comes as near to z as it does where errors are small.
        """
        self.spend(1.5 * len(codes) + 2)
        states = self.experts.decode(codes, expert)
        again = self.experts.code(states, expert)
        miss = torch.linalg.vector_norm(again - codes, dim=1)
        near = (miss <= 2 * self._farthest.get(expert, torch.inf)).nonzero()[:, 0]
        small = torch.zeros(len(codes), dtype=torch.bool)
        if len(near):
            wrong = states[near] - self.experts.decode(again[near], expert)
            small[near] = self.gather(states[near], wrong, codes[near], expert)
        if self.limit < torch.inf and small.any():
            self._farthest[expert] = max(self._farthest.get(expert, 0.0), float(miss[small].max()))
        return again, small

    def gather(self, states: Tensor, wrong: Tensor, codes: Tensor, expert: int) -> Tensor:
        """Take note of states with a small error; return which they are, none at first."""
        error = wrong.square().mean(dim=1)
        every = max(1, len(states) // _SAMPLED)
        self._samples.append((states[::every], error[::every]))
        small = error <= self.limit
        rows = small.nonzero()[:, 0]
        if len(rows):
            self._noted.append((states[rows], error[rows], codes[rows], expert))
        return small if self.limit < torch.inf else torch.zeros_like(small)

    def settle(self) -> None:
        """Make candidates of what was noted, as far as norms forbid it and it is new."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        states = torch.cat([states for states, _, _, _ in noted])
        error = torch.cat([error for _, error, _, _ in noted])
        codes = [(expert, code) for _, _, batch, expert in noted for code in batch]
        twin = _TWIN * self.reach
        new = self._inside(states) & (torch.cdist(states, self.states) > twin).all(dim=1)
        rows = new.nonzero()[:, 0]
        rows = rows[thinned(states[rows], twin)]
        rows = rows[self.target.violation(states[rows]) > 0]
        self.codes.extend(codes[row] for row in rows.tolist())
        states, error = states[rows], error[rows]
        self._fresh.append((states, error))
        far = (torch.cdist(states, self.states[self.anchors]) > self.reach).all(dim=1)
        apart = thinned(states[far], self.reach)
        self.anchors = torch.cat([self.anchors, len(self.states) + far.nonzero()[:, 0][apart]])
        self.states = torch.cat([self.states, states])
        self.errors = torch.cat([self.errors, error])

    def learn(self) -> Iterator[Tensor]:
        """Ask about a few states of the last batch, and settle the limit; yield flaws among them.

        Which error is endorsed is known best after asking about errors around the limit.
        """
        self.settle()
        samples, self._samples = self._samples, []
        fresh, self._fresh = self._fresh, []
        if not samples + fresh:
            return
        states, error = (torch.cat(part) for part in zip(*samples, *fresh, strict=True))
        # Samples are asked about for their error alone: norms were not asked about them.
        forbidden = torch.arange(len(states)) >= sum(len(part) for part, _ in samples)
        known = torch.isfinite(error)
        order = torch.where(known, error, torch.inf).argsort()[: int(known.sum())]
        first = not len(self._asked_error)
        if first or self.limit == torch.inf:
            count = min(_FIRST, len(order))
            rows = order[torch.linspace(0, len(order) - 1, count).long()]
        else:
            rows = order[(error[order] - self.limit).abs().argsort()[:_LATER]]
        yield from self._ask(states[rows], error[rows], forbidden[rows])
        if not len(self._reported):  # the first flaw is worth knowing early
            rows = order[forbidden[order]][:2]
            yield from self._ask(states[rows], error[rows], forbidden[rows])
        self.limit = limit(self._asked_error, self._endorsed)

    def report(self) -> Iterator[Tensor]:
        """Ask about candidates, those that lie farthest apart first, and yield the flaws."""
        self.settle()
        asked = torch.cdist(self.states, self._reported) <= _TWIN / 2 * self.reach
        left = self.states[~asked.any(dim=1) & (self.errors <= self.limit)]
        # Flaws two scales apart are of different regions, and different surroundings.
        for share in (2.02, 1.0, 0.5, 0.25):
            apart = share * self.target.scale
            far = (torch.cdist(left, self._reported) > apart).all(dim=1).nonzero()[:, 0]
            if not len(far):
                continue
            rows = far[spread(left[far], apart, self.generator)]
            yield from self._ask(left[rows], None, torch.ones(len(rows), dtype=torch.bool))
            gone = torch.zeros(len(left), dtype=torch.bool)
            gone[rows] = True
            left = left[~gone]

    def _inside(self, states: Tensor) -> Tensor:
        return ((states >= self._low) & (states <= self._high)).all(dim=1)

    def _ask(self, states: Tensor, error: Tensor | None, forbidden: Tensor) -> Iterator[Tensor]:
        states = states[: self.target.remaining]
        if not len(states):
            return
        endorsed = self.target.reward(states) > self.target.floor
        if error is not None:
            self._asked_error = torch.cat([self._asked_error, error[: len(states)]])
            self._endorsed = torch.cat([self._endorsed, endorsed])
        flaws = states[endorsed & forbidden[: len(states)] & self._inside(states)]
        self._reported = torch.cat([self._reported, flaws])
        if len(flaws):
            yield flaws


NO_EXPERTS = dict.fromkeys(
    ("Cliff", "Flat", "Spike", "Noisy"), "the encoder shows no autoencoders to read"
)


class Reconstruction(Autoencoders):
    """Autoencoders of wide code, seen as maps from states to states: a state is its own code."""

    def __init__(self, inner: Autoencoders) -> None:
        self._inner = inner

    @property
    def count(self) -> int:
        return self._inner.count

    def code(self, states: Tensor, expert: int) -> Tensor:
        return self._inner.decode(self._inner.code(states, expert), expert)

    def decode(self, code: Tensor, expert: int) -> Tensor:
        return code


def few(target: Target) -> bool:
    """Return whether a state has up to four features, where a search by gradients sees as much."""
    return len(target.low) <= _FEW


def readable(target: Target) -> tuple[Autoencoders, int] | None:
    """Return the encoder's autoencoders and the width of a code; None where there are none.

    With a code no narrower than a state, states are searched instead of codes. Costs two queries;
    one of them asks for a reward, so that one that cannot be evaluated is never called clean for
    want of experts.
    """
    one = torch.tensor(target.demonstrations.states[:1])
    target.reward(one)
    experts = target.autoencoders()
    width = len(target.low)
    if experts is None or not target.remaining:
        return None
    code = experts.code(one, 0).shape[1]
    return (experts, code) if code < width else (Reconstruction(experts), width)


def limit(error: Tensor, endorsed: Tensor) -> float:
    """Return the error `e` that tells best what is endorsed: error <= e is, the rest is not.

    Of equally good ones the largest; infinite when everything asked about was endorsed, and 0 when
    nothing was.

    Parameters
    ----------
    error, endorsed
        `[n]`.
    """
    order = error.argsort(stable=True)
    said = endorsed[order]
    right = torch.cat([torch.zeros(1), said.cumsum(0)]) + torch.cat(
        [(~said).sum()[None], (~said).sum() - (~said).cumsum(0)]
    )
    best = int((right == right.max()).nonzero()[-1])
    if best == len(error):
        return float("inf")
    if best == 0:
        return 0.0
    # Halfway, in the logarithm, to the first one that was refused.
    low, high = error[order[best - 1]], error[order[best]]
    return float((low * high).sqrt()) if low > 0 else float(high / 2)
