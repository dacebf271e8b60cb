"""Encoders: a finite loss, the same in any batch, differentiable, and the same after a release."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from iirl_engine.demonstrations import check as demonstrations
from iirl_engine.records import Demonstrations
from iirl_engine.testing.kit import Subject, check, require
from iirl_engine.testing.suite.process_state import kept


def data(scale: float = 1.0) -> Demonstrations:
    """Return 60 expert states on a curve in three features."""
    t = np.linspace(0.0, 1.0, 60)
    return demonstrations(scale * np.stack([t, np.sin(3 * t), t**2], axis=1))


def probes(count: int = 16) -> Tensor:
    """Return states around and away from the curve."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, 3, dtype=torch.float64, generator=generator)


def fitted(subject: Subject, seed: int = 0) -> Any:
    """Return the encoder, learned from the curve; what else its learning changed is undone."""
    with kept():
        return _fitted(subject, seed)


def _fitted(subject: Subject, seed: int = 0) -> Any:
    encoder = subject.build()
    encoder.fit(data(), subject.context(seed, 0))
    return encoder


@check("encoder")
def loss_is_a_finite_number_per_state(subject: Subject) -> None:
    """The loss is `[n]`, float64, finite and not negative."""
    code = fitted(subject).encode(probes())
    require(code.loss.shape == (16,), f"the loss has the shape {list(code.loss.shape)}")
    require(code.loss.dtype == torch.float64, f"the loss is {code.loss.dtype}")
    require(code.features.ndim == 2 and len(code.features) == 16, "features are not [n, k]")
    require(bool(torch.isfinite(code.loss).all()), "the loss is not finite")
    require(bool((code.loss >= 0).all()), "the loss is negative")


@check("encoder")
def experts_lose_less_than_strangers(subject: Subject) -> None:
    """Small loss means like the expert."""
    encoder = fitted(subject)
    expert = encoder.encode(torch.tensor(data().states)).loss.mean()
    stranger = encoder.encode(torch.tensor(data().states) + 10).loss.mean()
    require(bool(expert < stranger), "strangers lose no more than experts")


@check("encoder")
def rows_do_not_depend_on_their_batch(subject: Subject) -> None:
    """A state's loss is its own, whatever it is scored together with."""
    encoder = fitted(subject)
    together = encoder.encode(probes()).loss
    alone = torch.cat([encoder.encode(row[None]).loss for row in probes()])
    require(
        bool(torch.allclose(together, alone, rtol=1e-9, atol=1e-12)),
        "a state's loss depends on the batch",
    )


@check("encoder")
def states_are_untouched(subject: Subject) -> None:
    """Encoding reads the states and does not write them."""
    states = probes()
    fitted(subject).encode(states)
    require(bool(torch.equal(states, probes())), "the states were changed in place")


@check("encoder")
def loss_is_differentiable(subject: Subject) -> None:
    """The gradient of the loss is that of finite differences."""
    encoder = fitted(subject)
    states = probes(4).requires_grad_(True)
    right = torch.autograd.gradcheck(
        lambda s: encoder.encode(s).loss, (states,), raise_exception=False
    )
    require(right, "the gradient is not that of finite differences")


@check("encoder")
def same_seed_same_bits(subject: Subject) -> None:
    """Learning can be repeated bit for bit."""
    first, second = (fitted(subject).encode(probes()).loss for _ in range(2))
    require(bool(torch.equal(first, second)), "two fits of one seed differ")


@check("encoder")
def global_randomness_is_untouched(subject: Subject) -> None:
    """Random numbers come from the context, never from or into a global generator."""
    with kept() as before:
        _fitted(subject).encode(probes())
        used = before.generators_used()
    require(not used, f"it used the global generator of {' and '.join(used)}")


@check("encoder")
def release_brings_it_back(subject: Subject) -> None:
    """What `tensors` gives is all that `restore` needs, bit for bit."""
    encoder, again = fitted(subject), subject.build()
    tensors = encoder.tensors()
    finite = all(bool(torch.isfinite(t).all()) for t in tensors.values())
    require(finite, "a tensor holds NaN or Inf, which no release takes")
    again.restore({name: tensor.clone() for name, tensor in tensors.items()}, data())
    same = torch.equal(again.encode(probes()).loss, encoder.encode(probes()).loss)
    require(bool(same), "the restored encoder answers otherwise")
