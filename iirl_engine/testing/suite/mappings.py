"""Mappings: into [0, 1], never rising, and no reward for what is no number."""

from __future__ import annotations

from typing import Any

import torch

from iirl_engine.testing.kit import Subject, check, require

EXPERT = torch.tensor([0.1, 0.2, 0.25, 0.7], dtype=torch.float64)
LOSSES = torch.cat([torch.zeros(1), torch.logspace(-9, 9, 200)]).to(torch.float64)


def fitted(subject: Subject) -> Any:
    """Return the mapping, learned from four losses."""
    mapping = subject.build()
    mapping.fit(EXPERT, subject.context(0, 0))
    return mapping


@check("mapping")
def rewards_lie_in_0_to_1(subject: Subject) -> None:
    """The base reward is `[n]`, float64, in [0, 1], for any experts, alike or alone."""
    for expert in (EXPERT, EXPERT[:1], torch.zeros(3, dtype=torch.float64)):
        mapping = subject.build()
        mapping.fit(expert, subject.context(0, 0))
        reward = mapping.map(LOSSES)
        require(reward.shape == LOSSES.shape, f"the reward has the shape {list(reward.shape)}")
        require(reward.dtype == torch.float64, f"the reward is {reward.dtype}")
        require(bool(((reward >= 0) & (reward <= 1)).all()), "a reward is outside [0, 1]")


@check("mapping")
def more_loss_is_never_more_reward(subject: Subject) -> None:
    """The mapping is monotone, and tells experts from strangers."""
    reward = fitted(subject).map(LOSSES)
    require(bool((reward.diff() <= 0).all()), "a greater loss has a greater reward")
    require(bool(reward[0] > reward[-1]), "the reward does not depend on the loss")


@check("mapping")
def slope_is_that_of_the_reward(subject: Subject) -> None:
    """`reward_and_slope` is None, or what `map` and its differentiation give."""
    mapping = fitted(subject)
    given = mapping.reward_and_slope(LOSSES)
    if given is None:
        return
    asked = LOSSES.clone().requires_grad_(True)
    reward = mapping.map(asked)
    (slope,) = torch.autograd.grad(reward.sum(), asked)
    for name, found, expected in zip(("reward", "slope"), given, (reward, slope), strict=True):
        require(found.shape == expected.shape, f"the {name} has the shape {list(found.shape)}")
        right = bool(torch.allclose(found, expected.detach(), rtol=1e-9, atol=1e-12))
        require(right, f"the {name} is not the one that differentiating `map` gives")


@check("mapping")
def what_is_no_number_gets_no_reward(subject: Subject) -> None:
    """A loss of NaN or Inf is not endorsed: the answer is NaN or 0."""
    bad = torch.tensor([torch.nan, torch.inf], dtype=torch.float64)
    reward = fitted(subject).map(bad)
    require(bool((torch.isnan(reward) | (reward == 0)).all()), "a loss of NaN or Inf is rewarded")


@check("mapping")
def rows_do_not_depend_on_their_batch(subject: Subject) -> None:
    """A loss has one reward, whatever it is mapped together with."""
    mapping = fitted(subject)
    alone = torch.cat([mapping.map(loss[None]) for loss in LOSSES])
    same = torch.allclose(alone, mapping.map(LOSSES), rtol=1e-12, atol=1e-15)
    require(bool(same), "a reward depends on the batch")


@check("mapping")
def release_brings_it_back(subject: Subject) -> None:
    """What `tensors` gives is all that `restore` needs, bit for bit."""
    mapping, again = fitted(subject), subject.build()
    again.restore({name: tensor.clone() for name, tensor in mapping.tensors().items()})
    require(bool(torch.equal(again.map(LOSSES), mapping.map(LOSSES))), "it answers otherwise")
