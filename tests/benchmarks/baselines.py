"""Rewards that others would learn from the same states, each in a few plain lines.

Every baseline takes expert states `[n, d]`, negatives `[m, d]` and a seed, and returns a function
from states `[k, d]` to rewards `[k]`. All are standardised by the expert's mean and deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Reward = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor, int], Reward]

_TILE = 1000
_STEPS = 2000
_BATCH = 256


def mixture_of_autoencoders(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """exp of minus the reconstruction error (MoE-GUIDE, arXiv 2507.15287)."""
    scale, width = standard(expert), expert.shape[1]
    torch.manual_seed(seed)
    hidden = (width + 1) // 2
    experts = nn.ModuleList(_autoencoder(width, hidden) for _ in range(3)).double()
    gate = nn.Linear(width, 3).double()

    def loss(states: Tensor) -> Tensor:
        weights = torch.softmax(gate(states), dim=1)
        mixed = sum(weights[:, k, None] * experts[k](states) for k in range(3))
        return (states - mixed).square().mean(dim=1)

    _train([*experts.parameters(), *gate.parameters()], loss, scale(expert), seed)
    with torch.no_grad():
        limit = loss(scale(expert)).quantile(0.99)
    return _quiet(lambda s: torch.exp(-loss(scale(s)) / limit))


def nearest_neighbours(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """exp of minus the mean distance to five expert states, in units of its median."""
    scale = standard(expert)
    points = scale(expert)
    unit = median_distance(points)
    return _tiled(
        lambda s: torch.exp(
            -torch.cdist(scale(s), points).topk(5, largest=False).values.mean(1) / unit
        )
    )


def kernel_density(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """Log density with a Gaussian of bandwidth 0.5, as imitation's DensityAlgorithm."""
    scale = standard(expert)
    points = scale(expert)
    return _tiled(lambda s: torch.logsumexp(-torch.cdist(scale(s), points).square() / 0.5, dim=1))


def random_network_distillation(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """exp of minus the error of a predictor against a random network (RED, Wang et al. 2019)."""
    scale, width = standard(expert), expert.shape[1]
    torch.manual_seed(seed)
    target, predictor = _network(width, 64), _network(width, 64)

    def loss(states: Tensor) -> Tensor:
        return (predictor(states) - target(states).detach()).square().mean(dim=1)

    _train(list(predictor.parameters()), loss, scale(expert), seed)
    with torch.no_grad():
        unit = loss(scale(expert)).mean()
    return _quiet(lambda s: torch.exp(-loss(scale(s)) / unit))


def deep_svdd(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """Minus the distance to the centre of a network's image (Ruff et al. 2018)."""
    scale, width = standard(expert), expert.shape[1]
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(width, 64, bias=False),
        nn.LeakyReLU(0.1),
        nn.Linear(64, 32, bias=False),
    ).double()
    with torch.no_grad():
        centre = network(scale(expert)).mean(dim=0)

    def loss(states: Tensor) -> Tensor:
        return (network(states) - centre).square().sum(dim=1)

    _train(list(network.parameters()), loss, scale(expert), seed, weight_decay=1e-3)
    return _quiet(lambda s: -loss(scale(s)).sqrt())


def kernel_mean_features(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """Mean kernel to the expert by 2,048 random Fourier features, half the median distance."""
    scale = standard(expert)
    points = scale(expert)
    generator = torch.Generator().manual_seed(seed)
    spread = 0.5 * median_distance(points)
    frequencies = torch.randn(points.shape[1], 2048, dtype=torch.float64, generator=generator)
    phases = 2 * torch.pi * torch.rand(2048, dtype=torch.float64, generator=generator)

    def features(states: Tensor) -> Tensor:
        return torch.cos(scale(states) @ frequencies / spread + phases) * (2 / 2048) ** 0.5

    mean = features(expert).mean(dim=0)
    return _tiled(lambda s: features(s) @ mean)


def iirl_tanh(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """Eq. 2 with a tanh mapping of a network, trained on expert states and negatives."""
    return _discriminator(expert, negatives, seed, lambda up, down: (down - up).tanh().mean())


def logistic(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """A logistic discriminator between expert states and negatives, its logit."""
    softplus = nn.functional.softplus
    return _discriminator(
        expert, negatives, seed, lambda up, down: (softplus(-up) + softplus(down)).mean()
    )


def witness(expert: Tensor, negatives: Tensor, seed: int) -> Reward:
    """Mean kernel to the expert minus mean kernel to the negatives, half the median distance."""
    scale = standard(expert)
    up, down = scale(expert), scale(negatives)
    spread = 0.5 * median_distance(torch.cat([up, down]))

    def mean(states: Tensor, points: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(states, points).square() / (2 * spread**2)).mean(dim=1)

    return _tiled(lambda s: mean(scale(s), up) - mean(scale(s), down))


POSITIVES: dict[str, Fit] = {
    "mixture of autoencoders": mixture_of_autoencoders,
    "k-NN": nearest_neighbours,
    "kernel density": kernel_density,
    "random network distillation": random_network_distillation,
    "deep SVDD": deep_svdd,
    "kernel mean, random features": kernel_mean_features,
}
NEGATIVES: dict[str, Fit] = {
    "eq. 2 with tanh": iirl_tanh,
    "logistic discriminator": logistic,
    "MMD witness": witness,
}


def standard(expert: Tensor) -> Reward:
    """Return the scaling to the expert's mean and standard deviation."""
    center, spread = expert.mean(dim=0), expert.std(dim=0).clamp(min=1e-6)
    return lambda states: (states - center) / spread


def median_distance(points: Tensor) -> float:
    """Return the median distance between 2,000 of the points."""
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:2000]
    return float(torch.pdist(points[chosen]).median())


def _discriminator(
    expert: Tensor, negatives: Tensor, seed: int, objective: Callable[[Tensor, Tensor], Tensor]
) -> Reward:
    scale, width = standard(expert), expert.shape[1]
    torch.manual_seed(seed)
    network = _network(width, 1)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    up, down = scale(expert), scale(negatives)
    for _ in range(_STEPS):
        some = [p[torch.randint(len(p), (_BATCH,), generator=generator)] for p in (up, down)]
        optimizer.zero_grad()
        objective(network(some[0])[:, 0], network(some[1])[:, 0]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _quiet(lambda s: network(scale(s))[:, 0].tanh())


def _train(
    parameters: list[Any],
    loss: Reward,
    states: Tensor,
    seed: int,
    weight_decay: float = 0.0,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=weight_decay)
    for _ in range(_STEPS):
        rows = torch.randint(len(states), (_BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(states[rows]).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _autoencoder(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def _network(width: int, out: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, out)
    ).double()


def _quiet(reward: Reward) -> Reward:
    return torch.no_grad()(reward)


def _tiled(reward: Reward) -> Reward:
    return _quiet(lambda s: torch.cat([reward(part) for part in torch.split(s, _TILE)]))
