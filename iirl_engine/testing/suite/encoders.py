"""Encoders: a finite loss, the same in any batch and after a release, and abilities as declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iirl_engine.demonstrations import check as demonstrations
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations
from iirl_engine.testing.kit import NotApplicable, RuledOut, Subject, check, require
from iirl_engine.testing.suite.process_state import kept


def data(scale: float = 1.0, *, negatives: float = 0.0) -> Demonstrations:
    """Return 60 expert states on a curve in three features.

    And, unless `negatives` is 0, as many negatives, which have so much more of the first feature.
    """
    t = np.linspace(0.0, 1.0, 60)
    states = scale * np.stack([t, np.sin(3 * t), t**2], axis=1)
    beside = states + scale * np.array([negatives, 0.0, 0.0])
    return demonstrations(states, negatives=beside if negatives else None)


def suited(subject: Subject) -> Demonstrations:
    """Return demonstrations that the encoder can learn from, with negatives if it needs them."""
    return data(negatives=0.3 if subject.target().abilities.negatives == "required" else 0.0)


def every_other(given: Demonstrations) -> Demonstrations:
    """Return the demonstrations in the rows of even number, expert states and negatives."""
    return demonstrations(given.states[::2], negatives=given.negatives[::2])


def probes(count: int = 16) -> Tensor:
    """Return states around and away from the curve."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, 3, dtype=torch.float64, generator=generator)


def fitted(subject: Subject, seed: int = 0, given: Demonstrations | None = None) -> Any:
    """Return the encoder, learned from the curve or the given demonstrations.

    What else its learning changed in the process is undone.
    """
    with kept():
        return _fitted(subject, seed, given)


def _fitted(subject: Subject, seed: int = 0, given: Demonstrations | None = None) -> Any:
    encoder = subject.build()
    encoder.fit(suited(subject) if given is None else given, subject.context(seed, 0))
    return encoder


def released(encoder: Any, subject: Subject, given: Demonstrations) -> Any:
    """Return another encoder, as a release of this one would bring it back."""
    again = subject.build()
    again.restore({name: t.detach().clone() for name, t in encoder.tensors().items()}, given)
    return again


def loss_of(encoder: Any, states: Any) -> Tensor:
    """Return the loss of an array of states, without its graph."""
    with torch.no_grad():
        loss: Tensor = encoder.encode(torch.tensor(states)).loss
    return loss


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
    """The gradient is that of finite differences, and most states near the experts have one.

    Unless the encoder's abilities deny a gradient.
    """
    if not subject.target().abilities.gradient:
        raise RuledOut("its abilities deny a gradient")
    encoder = fitted(subject)
    states = probes(4).requires_grad_(True)
    right = torch.autograd.gradcheck(
        lambda s: encoder.encode(s).loss, (states,), raise_exception=False
    )
    require(right, "the gradient is not that of finite differences")
    generator = torch.Generator().manual_seed(2)
    curve = torch.tensor(data().states)
    near = curve + 0.1 * torch.randn(curve.shape, dtype=torch.float64, generator=generator)
    near.requires_grad_(True)
    (gradient,) = torch.autograd.grad(encoder.encode(near).loss.sum(), near)
    share = float((gradient != 0).any(dim=1).double().mean())
    require(share > 0.5, f"only {share:.0%} of the states near experts have a gradient")


@check("encoder")
def gradient_is_that_of_the_loss(subject: Subject) -> None:
    """`loss_and_gradient` is None, or what `encode` and its differentiation give."""
    encoder, states = fitted(subject), torch.cat([probes(), 1e7 * probes()])
    asked = states.clone().requires_grad_(True)
    loss = encoder.encode(asked).loss
    if not loss.requires_grad:
        return  # which another check is about
    with torch.no_grad():
        given = encoder.loss_and_gradient(states.clone())
    if given is None:
        return
    (gradient,) = torch.autograd.grad(loss.sum(), asked)
    for name, found, expected in zip(("loss", "gradient"), given, (loss, gradient), strict=True):
        require(found.shape == expected.shape, f"the {name} has the shape {list(found.shape)}")
        # What is near 0 beside the rest of its row may be wrong by as much as the rest is.
        size = expected.detach().abs().reshape(len(states), -1).amax(dim=1, keepdim=True)
        wrong = (found - expected.detach()).abs().reshape(len(states), -1)
        right = bool((wrong <= 1e-9 * size + 1e-12).all())
        require(right, f"the {name} is not the one that differentiating `encode` gives")


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
    encoder = fitted(subject)
    tensors = encoder.tensors()
    finite = all(bool(torch.isfinite(t).all()) for t in tensors.values())
    require(finite, "a tensor holds NaN or Inf, which no release takes")
    again = released(encoder, subject, suited(subject))
    same = torch.equal(again.encode(probes()).loss, encoder.encode(probes()).loss)
    require(bool(same), "the restored encoder answers otherwise")
    before, after = encoder.uncertainty(probes()), again.uncertainty(probes())
    same = after is None if before is None else torch.equal(before, after)
    require(same, "the restored encoder is as certain of other states")


@check("encoder")
def negatives_are_used_as_declared(subject: Subject) -> None:
    """Negatives change nothing, or they lose reward, and who needs them says that they are missing.

    `ignored`: the answer is the same bits without them. `optional`: it is another one. `required`:
    `fit` raises `DataError` without them. Where they are used they lose more than experts, and
    negatives on one side of the experts cost this side more than those on the other side do.
    """
    declared = subject.target().abilities.negatives
    require(declared in ("ignored", "optional", "required"), f"negatives are {declared!r}")
    above, below = data(negatives=0.3), data(negatives=-0.3)
    told = fitted(subject, given=above)
    if declared == "required":
        require(_lacking(subject), "it needs negatives, and learns without any")
    else:
        untold = fitted(subject)
        same = torch.equal(told.encode(probes()).loss, untold.encode(probes()).loss)
        wrong = "it ignores negatives, and they change the loss"
        require(same or declared == "optional", wrong)
        if declared == "ignored":
            return
        require(not same, "it uses negatives, and they change nothing")
    auroc = _order(told, above.negatives, above.states)
    require(auroc > 0.5, f"negatives lose less than experts: AUROC {auroc:.2f}")
    told_otherwise = fitted(subject, given=below)
    warned = _order(told, above.negatives, below.negatives)
    unwarned = _order(told_otherwise, above.negatives, below.negatives)
    require(warned > unwarned, "negatives make states like them lose no more than others")


def _lacking(subject: Subject) -> bool:
    try:
        fitted(subject, given=data())
    except DataError:
        return True
    return False


def _order(encoder: Any, high: Any, low: Any) -> float:
    """Return the AUROC of the loss: how often a state that should lose more does."""
    # In one batch, so that an encoder that minds its batch fails the check for that alone.
    loss = loss_of(encoder, np.concatenate([high, low]))
    more, less = loss[: len(high), None], loss[len(high) :]
    return float(((more > less).double() + (more == less).double() / 2).mean())


@check("encoder")
def unlearning_is_as_declared(subject: Subject) -> None:
    """Unlearning is fitting on the rest, to 1e-6, after a release too; or it is refused."""
    given = suited(subject)
    rest = every_other(given)
    encoder = fitted(subject)
    if not subject.target().abilities.unlearning:
        refused = _refused(lambda: encoder.unlearn(rest))
        require(refused, "its abilities deny unlearning, and unlearn raises no NotImplementedError")
        return
    first, expected = (fitted(subject, given=rest).encode(probes()) for _ in range(2))
    if not torch.equal(first.loss, expected.loss):
        raise NotApplicable("two fits of one seed differ")
    again = released(encoder, subject, given)
    for when, one in (("before", encoder), ("after", again)):
        one.unlearn(rest)
        code = one.encode(probes())
        same = code.features.shape == expected.features.shape and all(
            _close(found, fit) for found, fit in zip(code, expected, strict=True)
        )
        require(same, f"unlearning {when} a release is not fitting on the rest")


@check("encoder")
def incremental_learning_is_as_declared(subject: Subject) -> None:
    """`extend` makes new expert states more expert and keeps the first; or it is refused."""
    given = suited(subject)
    added = given.states + np.array([0.0, 0.0, 1.5])
    more = demonstrations(np.concatenate([given.states, added]), negatives=given.negatives)
    encoder, context = fitted(subject), subject.context(round=1)
    if not subject.target().abilities.incremental:
        refused = _refused(lambda: encoder.extend(more, context))
        require(refused, "its abilities deny extending, and extend raises no NotImplementedError")
        return
    again = released(encoder, subject, given)
    before = loss_of(encoder, added).mean()
    for when, one in (("before", encoder), ("after", again)):
        with kept() as process:
            one.extend(more, context)
            used = process.generators_used()
        require(not used, f"extending used the global generator of {' and '.join(used)}")
        loss = loss_of(one, more.states)
        require(bool(torch.isfinite(loss).all()), f"extended {when} a release, it has no loss")
        fell = loss[len(given.states) :].mean() < before
        require(bool(fell), f"extended {when} a release, new expert states are no more expert")
        kept_on = loss[: len(given.states)].mean() < before
        require(bool(kept_on), f"extended {when} a release, the first are experts no longer")


@check("encoder")
def uncertainty_is_a_number_per_state(subject: Subject) -> None:
    """Uncertainty is None, or `[n]`, finite and not negative, whatever the batch."""
    encoder = fitted(subject)
    uncertainty = encoder.uncertainty(probes())
    if uncertainty is None:
        return
    require(
        isinstance(uncertainty, Tensor) and uncertainty.shape == (16,), "the uncertainty is no [n]"
    )
    require(bool(torch.isfinite(uncertainty).all()), "an uncertainty is not finite")
    require(bool((uncertainty >= 0).all()), "an uncertainty is negative")
    alone = torch.cat([encoder.uncertainty(row[None]) for row in probes()])
    require(_close(alone, uncertainty), "a state's uncertainty depends on the batch")


def _refused(call: Callable[[], None]) -> bool:
    try:
        call()
    except NotImplementedError:
        return True
    return False


def _close(found: Tensor, expected: Tensor) -> bool:
    size = float(expected.abs().max())
    return torch.allclose(found, expected, rtol=1e-6, atol=1e-9 * size)


@check("encoder")
def autoencoders_map_states_to_states(subject: Subject) -> None:
    """Each autoencoder, if there are any, codes a state and decodes it again, row by row."""
    experts = fitted(subject).autoencoders()
    if experts is None:
        return
    require(experts.count >= 1, "it offers autoencoders and has none")
    for expert in range(experts.count):
        code = experts.code(probes(), expert)
        require(code.ndim == 2 and len(code) == 16, f"16 codes have the shape {list(code.shape)}")
        states = experts.decode(code, expert)
        require(states.shape == (16, 3), f"16 decoded states have the shape {list(states.shape)}")
        require(bool(torch.isfinite(states).all()), "a decoded state is not finite")
        alone = experts.decode(experts.code(probes()[:1], expert), expert)
        require(torch.allclose(alone, states[:1], atol=1e-9), "a row depends on its batch")
