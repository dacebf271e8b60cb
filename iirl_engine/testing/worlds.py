"""Rewards whose flaws are known exactly, to try auditors and refiners on.

Every world lives in the domain [-1, 1]^d. The experts are the origin and the points 0.1 from it
along each axis. Two norms hold: `support`, with a boundary that reaches past the box, and `box`,
which allows [-0.5, 0.5]^d; so a state is forbidden exactly when a coordinate exceeds 0.5 in
magnitude, and the forbidden share of the domain is 1 - 0.5^d. The floor is 0.01.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import api
from iirl_engine.api import Abilities, Code, Context
from iirl_engine.builtin.norms import BoxNorm, SupportNorm
from iirl_engine.builtin.options import BoxOptions, SupportOptions
from iirl_engine.demonstrations import check, widened_range
from iirl_engine.options import NoOptions
from iirl_engine.records import Demonstrations, Domain
from iirl_engine.reward import RewardModel

FLOOR = 0.01
ALLOWED = 0.5
# Radius of a peak of reward.
CONE = 0.2


class Given(api.Encoder[Callable[[Tensor], Tensor]]):
    """The expertness loss that makes the reward a given function of states: its options."""

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        """Learn nothing: the reward is given."""

    def encode(self, states: Tensor) -> Code:
        return Code(states, 1 - self.options(states))

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        """Take back nothing."""


class Cones(api.Encoder[NoOptions]):
    """L(s) = min_i |s - e_i| / 0.2, and where there are negatives, up to 2 more among them.

    With cones k_x = max(0, 1 - |s - x| / 0.2), 2 Σ v_j k_j / (Σ v_j k_j + Σ w_i k_i) is added, of
    negatives j with weights v and expert states i with weights w.
    """

    abilities = Abilities(negatives="optional", unlearning=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        self.unlearn(demonstrations)

    def unlearn(self, rest: Demonstrations) -> None:
        self.experts, self.weights = _weighed(rest.states, rest.weights)
        self.negatives, self.against = _weighed(rest.negatives, rest.negative_weights)

    def encode(self, states: Tensor) -> Code:
        apart = _apart(states, self.experts)
        loss = apart.amin(dim=1)
        if len(self.negatives):
            toward = _cones(apart) @ self.weights
            against = _cones(_apart(states, self.negatives)) @ self.against
            loss = loss + 2 * against / (against + toward).clamp(min=1e-9)
        return Code(states, loss)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "experts": self.experts,
            "weights": self.weights,
            "negatives": self.negatives,
            "against": self.against,
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self.experts, self.weights = tensors["experts"], tensors["weights"]
        self.negatives, self.against = tensors["negatives"], tensors["against"]


def _weighed(
    states: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[Tensor, Tensor]:
    given = np.ones(len(states)) if weights is None else weights
    return torch.tensor(states), torch.tensor(given)


def _apart(states: Tensor, centers: Tensor) -> Tensor:
    """Return the distance `[n, m]` of each state from each centre, in units of a cone's radius."""
    apart: Tensor = torch.linalg.vector_norm(states[:, None] - centers, dim=2)
    return apart / CONE


def _cones(apart: Tensor) -> Tensor:
    return (1 - apart).clamp(min=0)


class OneMinus(api.Mapping[NoOptions]):
    """g(L) = 1 - L, cut to [0, 1]."""

    def fit(self, loss: Tensor, context: Context) -> None:
        """Learn nothing."""

    def map(self, loss: Tensor) -> Tensor:
        return (1 - loss).clamp(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back nothing."""


class World(abc.ABC):
    """A reward with known flaws.

    Parameters
    ----------
    width
        Number of features d.
    """

    def __init__(self, width: int = 2) -> None:
        experts = check(self.states(width), origin=str(self))
        support = SupportNorm(SupportOptions(boundary=ALLOWED * math.sqrt(width) + 0.1))
        names = experts.feature_names
        limits = (-ALLOWED,) * width, (ALLOWED,) * width
        box = BoxNorm(BoxOptions(features=names, low=limits[0], high=limits[1]))
        for norm in (support, box):
            norm.fit(experts, Context("norm", "norm", 0, 0))
        encoder = self.encoder()
        encoder.fit(experts, Context("encoder", "encoder", 0, 0))
        self.width = width
        self.model = RewardModel(
            encoder,
            OneMinus(NoOptions()),
            {"support": support, "box": box},
            experts,
            Domain((-1.0,) * width, (1.0,) * width),
        )

    def states(self, width: int) -> NDArray[np.float64]:
        """Return the demonstrations `[n, d]`."""
        axes = 0.1 * np.eye(width)
        return np.concatenate([np.zeros((1, width)), axes, -axes])

    def encoder(self) -> api.Encoder[Any]:
        """Return an encoder that makes the reward what it is."""
        return Given(self.reward)

    @abc.abstractmethod
    def reward(self, states: Tensor) -> Tensor:
        """Return the reward `[n]` of states `[n, d]`."""

    @abc.abstractmethod
    def flawed_share(self) -> float:
        """Return the share of the domain's volume that is endorsed and forbidden."""

    def is_flaw(
        self, states: NDArray[np.float64], model: RewardModel | None = None
    ) -> NDArray[np.bool_]:
        """Return `[n]`: which states are forbidden and endorsed, by another model if given."""
        forbidden = np.abs(states).max(axis=1) > ALLOWED
        return np.asarray(forbidden & ((model or self.model)(states) > FLOOR))

    def __str__(self) -> str:
        return type(self).__name__


def flat(states: NDArray[np.float64]) -> RewardModel:
    """Return a reward of 0.5 everywhere, with `states [n, d]` for experts and a tight support."""
    experts = check(states)
    support = SupportNorm(SupportOptions(boundary=0.1))
    support.fit(experts, Context("norm", "support", 0, 0))
    reward = Given(lambda asked: torch.full_like(asked[:, 0], 0.5) + 0 * asked.sum(dim=1))
    mapping, domain = OneMinus(NoOptions()), widened_range(experts.states)
    return RewardModel(reward, mapping, {"support": support}, experts, domain)


class Bowl(World):
    """Sound: 1 - 2 max|s|, which is 0 where a state is forbidden. No flaw; flawed share 0."""

    def flawed_share(self) -> float:
        return 0.0

    def reward(self, states: Tensor) -> Tensor:
        return (1 - states.abs().amax(dim=1) / ALLOWED).clamp(min=0)


class Cliff(Bowl):
    """The bowl, and a reward of 1 where the first feature exceeds 0.75: flawed share 1/8."""

    def flawed_share(self) -> float:
        return 0.125

    def reward(self, states: Tensor) -> Tensor:
        return torch.where(states[:, 0] > 0.75, 1.0, super().reward(states))


class Flat(World):
    """A reward of 0.5 everywhere, without gradient: flawed share 1 - 0.5^d."""

    def flawed_share(self) -> float:
        return 1 - ALLOWED**self.width

    def reward(self, states: Tensor) -> Tensor:
        return torch.full_like(states[:, 0], 0.5) + 0 * states.sum(dim=1)


class Spike(Bowl):
    """The bowl, and a cone of height 1 and radius 0.2 around (0.75, ..., 0.75).

    In two features the flawed share is π (0.99 · 0.2)^2 / 4, about 0.031; it shrinks fast with
    more.
    """

    def flawed_share(self) -> float:
        return _share_of_a_cone(self.width)

    def reward(self, states: Tensor) -> Tensor:
        apart = torch.linalg.vector_norm(states - 0.75, dim=1)
        return torch.maximum(super().reward(states), (1 - apart / CONE).clamp(min=0))


class Mistaken(World):
    """A cone around each demonstration, of which one, (0.75, ..., 0.75), is a mistake.

    Its encoder learns from negatives and unlearns exactly. The flawed share is that of `Spike`.
    """

    def flawed_share(self) -> float:
        return _share_of_a_cone(self.width)

    def states(self, width: int) -> NDArray[np.float64]:
        return np.concatenate([super().states(width), np.full((1, width), 0.75)])

    def encoder(self) -> api.Encoder[Any]:
        return Cones(NoOptions())

    def reward(self, states: Tensor) -> Tensor:
        return _cones(_apart(states, torch.tensor(self.states(self.width)))).amax(dim=1)


def _share_of_a_cone(width: int) -> float:
    radius = CONE * (1 - FLOOR)
    ball = math.pi ** (width / 2) / math.gamma(width / 2 + 1)
    return float(ball * (radius / 2) ** width)


class Noisy(Bowl):
    """The bowl plus 0.3 sin^2(10 π x) of the first feature.

    The reward exceeds the floor in a share 1 - 2 asin(sqrt(1/30)) / π of all states, so the
    flawed share is 0.883 (1 - 0.5^d).
    """

    def flawed_share(self) -> float:
        endorsed = 1 - 2 * math.asin(math.sqrt(FLOOR / 0.3)) / math.pi
        return endorsed * (1 - ALLOWED**self.width)

    def reward(self, states: Tensor) -> Tensor:
        ripple = 0.3 * torch.sin(10 * math.pi * states[:, 0]).square()
        return (super().reward(states) + ripple).clamp(max=1)


WORLDS: tuple[type[World], ...] = (Bowl, Cliff, Flat, Spike, Noisy)
