"""The reward model, R(s, t) = β(s, t) clip(g(L(s)) - suppression + lift, 0, 1), and its reasons."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import api
from iirl_engine.answers import all_finite, one_each
from iirl_engine.corrections.base import Correction, View
from iirl_engine.corrections.revision import Revision
from iirl_engine.demonstrations import number_array
from iirl_engine.errors import DataError
from iirl_engine.explanation import Explanation, explain
from iirl_engine.gradient import (
    TINY,
    Slopes,
    log_reward,
    log_slope,
    loss_of_nothing,
    told,
    value_and_gradient,
)
from iirl_engine.records import Demonstrations, Domain
from iirl_engine.uncertainty import Coverage, Doubt

log = logging.getLogger(__name__)

_ROWS = 2**16


def _known(states: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return which states are finite, None when all are, and the states with 0 for the others."""
    if all_finite(states):
        return None, states
    finite = torch.isfinite(states).all(dim=1)
    if broken := int((~finite).sum()):
        log.warning("states with NaN or Inf get reward 0: %d", broken)
    return finite, torch.where(finite[:, None], states, 0.0)


def violations(norms: Mapping[str, api.Norm[Any]], states: Tensor) -> dict[str, Tensor]:
    """Return the violation `[n]` of each norm; what cannot be told counts as forbidden.

    Raises
    ------
    ValueError
        When a norm does not answer with one number for each of `states [n, d]`.
    """
    finite = torch.isfinite(states).all(dim=1)
    known = torch.where(finite[:, None], states, 0.0)
    found = {}
    for name, norm in norms.items():
        measured = one_each(norm.violation(known), states, f"norm {name}")
        found[name] = torch.where(finite & torch.isfinite(measured), measured, torch.inf)
    return found


class RewardModel:
    """A reward over states, learned from demonstrations and corrected by refiners.

    Calling it scores states: NumPy in, NumPy out; torch in, torch out and differentiable.
    It computes in float64 and answers in float32 when asked in float32. A state that holds NaN
    or Inf, and a reward that comes out as one, scores 0.

    Without a time it answers R(s), the reward at full strength: that is what is audited and
    repaired, so that no schedule hides a flaw. With times t it answers β(s, t) R(s).

    Parameters
    ----------
    encoder, mapping
        Fitted.
    norms
        Norm id -> fitted norm.
    demonstrations
        What it was learned from.
    domain
        Where auditors may look.
    corrections
        In the order they were added.
    schedule
        β; None stands for 1 everywhere.
    probes
        `[p, d]` a sample of the states that audits looked at; None when nobody did.

    Attributes
    ----------
    encoder, mapping
        Those in force: the last revision's among the corrections, or else those that were learned.
    learned
        Encoder and mapping as they were learned.

    Raises
    ------
    ValueError
        When a correction's id is taken, it or the schedule looks at a norm that there is not, or
        it forgets demonstrations that there are not.
    """

    def __init__(
        self,
        encoder: api.Encoder[Any],
        mapping: api.Mapping[Any],
        norms: Mapping[str, api.Norm[Any]],
        demonstrations: Demonstrations,
        domain: Domain,
        corrections: Sequence[Correction] = (),
        schedule: api.Schedule[Any] | None = None,
        probes: NDArray[np.float64] | None = None,
    ) -> None:
        self.learned = encoder, mapping
        self.norms = dict(norms)
        self.demonstrations = demonstrations
        self.domain = domain
        self.schedule = schedule
        self.probes = np.empty((0, self.width)) if probes is None else probes
        self._corrections = tuple(corrections)
        ids = [correction.id for correction in self.corrections]
        if len(set(ids)) < len(ids):
            raise ValueError("the id of every correction must be its own")
        for correction in self.corrections:
            if unknown := set(correction.norms()) - set(self.norms):
                raise ValueError(f"correction {correction.id} looks at no norm: {sorted(unknown)}")
        if schedule is not None and (unknown := set(schedule.norms()) - set(self.norms)):
            raise ValueError(f"the schedule looks at no norm: {sorted(unknown)}")
        self.encoder, self.mapping = encoder, mapping
        if revisions := [c for c in self.corrections if isinstance(c, Revision)]:
            self.encoder, self.mapping = revisions[-1].parts(encoder, mapping, demonstrations)

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """In the order they were added; what a gate has judged it cannot take away."""
        return self._corrections

    @property
    def width(self) -> int:
        """Number of features of a state."""
        return len(self.demonstrations.feature_names)

    def with_corrections(self, added: Sequence[Correction]) -> RewardModel:
        """Return this reward with further corrections; this one stays as it is.

        Raises
        ------
        ValueError
            When an id is taken.
        """
        return self.evolve(corrections=(*self.corrections, *added))

    def evolve(self, **changes: Any) -> RewardModel:
        """Return this reward with some of its parts, named as above, changed."""
        parts: dict[str, Any] = {
            "encoder": self.learned[0],
            "mapping": self.learned[1],
            "norms": self.norms,
            "demonstrations": self.demonstrations,
            "domain": self.domain,
            "corrections": self.corrections,
            "schedule": self.schedule,
            "probes": self.probes,
        }
        return RewardModel(**parts | changes)

    @overload
    def __call__(self, states: Tensor, t: Any = None) -> Tensor: ...
    @overload
    def __call__(self, states: NDArray[Any], t: Any = None) -> NDArray[Any]: ...
    def __call__(self, states: Any, t: Any = None) -> Any:
        """Return the reward `[n]` in [0, 1] of states `[n, d]`.

        Parameters
        ----------
        states
            NumPy array or tensor.
        t
            Time of each state, `[n]` or one for all, >= 0; None for the reward at full strength.

        Raises
        ------
        DataError
            When the states have another shape or are no numbers, or the times do not fit them.
        """
        if isinstance(states, Tensor):
            self._check_tensor(states)
            narrow = states.dtype in (torch.float32, torch.float16, torch.bfloat16)
            given = states.to("cpu", torch.float64)
            reward = self._applied(self.reward(given), given, t)
            return reward.to(states.device, torch.float32 if narrow else torch.float64)
        array = self._array(states)
        narrow = array.dtype.kind == "f" and array.dtype.itemsize < 8
        with torch.no_grad():
            wide = torch.from_numpy(array.astype(np.float64))
            if len(wide) <= _ROWS:
                reward = self.reward(wide)
            else:
                reward = torch.cat([self.reward(part) for part in torch.split(wide, _ROWS)])
            reward = self._applied(reward, wide, t)
        return reward.numpy().astype(np.float32 if narrow else np.float64, copy=False)

    def strength(self, states: Tensor, t: Tensor) -> Tensor:
        """Return β `[n]` in [0, 1] of float64 `states [n, d]` at times `t [n]`; 0 for NaN."""
        if self.schedule is None:
            return torch.ones_like(t)
        violations = {name: self.norms[name].violation(states) for name in self.schedule.norms()}
        strength = one_each(self.schedule.strength(states, t, violations), states, "the schedule")
        return strength.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1)

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return u `[n]` of float64 `states [n, d]`: how little the reward can be relied on.

        From 0 to 1: the share of held-out demonstrations that are closer to what is known, so
        that a fresh demonstration exceeds 1 - alpha with a probability of at most alpha. Without
        held-out demonstrations each is compared with the others.
        """
        finite = torch.isfinite(states).all(dim=1)
        with torch.no_grad():
            doubt = self._doubt(torch.where(finite[:, None], states, 0.0))
            return torch.where(finite, doubt, 1.0)

    def coverage(self, states: Tensor) -> Tensor:
        """Return the audit coverage `[n]` of float64 `states [n, d]`; c_a(s) is 1 - coverage.

        From 0 to 1: the share of held-out probes whose nearest other probe is at least as far
        away. Counted are the audits that led to this release; without any it is 0.
        """
        finite = torch.isfinite(states).all(dim=1)
        with torch.no_grad():
            covered = self._coverage(torch.where(finite[:, None], states, 0.0))
            return torch.where(finite, covered, 0.0)

    @functools.cached_property
    def _doubt(self) -> Doubt:
        return Doubt(self.encoder, self.demonstrations)

    @functools.cached_property
    def _coverage(self) -> Coverage:
        return Coverage(self.probes, np.array(self.domain.low), np.array(self.domain.high))

    def _applied(self, reward: Tensor, states: Tensor, t: Any) -> Tensor:
        if t is None:
            return reward
        try:
            times = torch.as_tensor(t).to("cpu", torch.float64).expand(len(states))
        except (TypeError, ValueError, RuntimeError) as error:
            problem = "t must be one time, or one per state"
            raise DataError(problem, got=error, known=f"{len(states)} states") from error
        if not (torch.isfinite(times).all() and (times >= 0).all()):
            raise DataError("times must be finite and at least 0")
        finite = torch.isfinite(states).all(dim=1)
        return reward * self.strength(torch.where(finite[:, None], states, 0.0), times)

    def reward(self, states: Tensor) -> Tensor:
        """Return the reward at full strength `[n]` of float64 tensors `[n, d]`, differentiable."""
        finite, known = _known(states)
        return self._corrected(finite, self.view(known))

    def reward_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reward at full strength `[n]` and its gradient `[n, d]`, without their graph.

        Of float64 `states [n, d]`. Where the gradient cannot be told it is 0.
        """
        finite, known = _known(states.detach())
        with torch.no_grad():
            found = self.encoder.loss_and_gradient(known)
        if found is None:
            return value_and_gradient(self.reward, states)
        slopes = self._slopes(finite, known, *found)
        gradient = slopes.gradient
        if finite is not None:
            gradient[~finite] = 0.0
        return slopes.reward, told(gradient)

    def log_reward(self, states: Tensor) -> Tensor:
        """Return log R `[n]` of float64 `states [n, d]`, see `log_reward_and_gradient`."""
        finite, known = _known(states.detach())
        with torch.no_grad():
            view = self.view(known)
            value = log_reward(self._corrected(finite, view), view.loss, self._loss_of_nothing)
        return value if finite is None else torch.where(finite, value, math.log(TINY))

    def log_reward_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return log R `[n]` of float64 `states [n, d]` and its gradient, wherever R is tiny, too.

        Far from support a mapping such as exp underflows to 0 and has no slope; there log R goes on
        as -c L, with c such that nothing jumps: a search needs a direction before it needs a
        reward. Where corrections leave no reward it is log(1e-250), flat.
        """
        finite, known = _known(states.detach())
        with torch.no_grad():
            found = self.encoder.loss_and_gradient(known)
        if found is None:
            found = value_and_gradient(lambda asked: self.encoder.encode(asked).loss, known)
        slopes = self._slopes(finite, known, *found)
        value = log_reward(slopes.reward, slopes.loss, self._loss_of_nothing)
        gradient = log_slope(slopes, self._loss_of_nothing)
        if finite is not None:
            value, gradient[~finite] = torch.where(finite, value, math.log(TINY)), 0.0
        return value, gradient

    @functools.cached_property
    def _loss_of_nothing(self) -> float:
        return loss_of_nothing(self.mapping)

    def _slopes(self, finite: Tensor | None, states: Tensor, loss: Any, gradient: Any) -> Slopes:
        """Return the reward with the parts of its gradient, of the encoder's loss and gradient."""
        loss = self._loss(loss, states)
        if not isinstance(gradient, Tensor) or gradient.shape != states.shape:
            got = list(gradient.shape) if isinstance(gradient, Tensor) else type(gradient)
            raise ValueError(f"the encoder's gradient must be {list(states.shape)}, got {got}")
        if not self._corrections:
            with torch.no_grad():
                known = self.mapping.reward_and_slope(loss)
                if known is not None:
                    base, slope = (one_each(part, states, "the mapping") for part in known)
                    value = self._corrected(finite, View(states, base))
                    return Slopes(value, loss, gradient, torch.where(value == base, slope, 0.0))
        with torch.enable_grad():
            asked = [loss.detach().requires_grad_(True), states.clone().requires_grad_(True)]
            value = self._corrected(finite, self._view(asked[1], asked[0]))
            if not value.requires_grad:
                return Slopes(value, loss, gradient, torch.zeros_like(loss))
            by_loss, by_states = torch.autograd.grad(value.sum(), asked, allow_unused=True)
        slope = torch.zeros_like(loss) if by_loss is None else by_loss
        return Slopes(value.detach(), loss, gradient, slope, by_states)

    def base(self, states: Tensor) -> Tensor:
        """Return the reward before corrections, g(L(s)), `[n]`, of finite float64 states."""
        return self.view(states).base

    def view(self, states: Tensor) -> View:
        """Return what corrections look at, of finite float64 `states [n, d]`."""
        code = self.encoder.encode(states)
        return self._view(states, self._loss(code.loss, states), code.features)

    def _view(self, states: Tensor, loss: Tensor, features: Tensor | None = None) -> View:
        """Return a view at a given loss: what else depends on the states is told by them."""
        return View(
            states,
            self._mapped(loss, states),
            loss=loss,
            features=(lambda: self.encoder.encode(states).features)
            if features is None
            else features,
            violations={
                name: functools.partial(norm.violation, states) for name, norm in self.norms.items()
            },
        )

    def _loss(self, given: Any, states: Tensor) -> Tensor:
        loss = one_each(given, states, "the encoder's loss")
        # A mapping that cuts its answer to [0, 1] would take a loss of -Inf for the best of all.
        return loss.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=torch.nan)

    def _mapped(self, loss: Tensor, states: Tensor) -> Tensor:
        return one_each(self.mapping.map(loss), states, "the mapping")

    def _corrected(self, finite: Tensor | None, view: View) -> Tensor:
        """Return the base reward less the corrections, 0 where it is no number."""
        # Asked for in one order, first: gradients add up in the order in which they come up.
        for name in sorted({name for c in self._corrections for name in c.norms()}):
            view.violations[name]
        reward = view.base
        for correction in self._corrections:
            reward = reward - correction.suppression(view)
        if finite is None and all_finite(reward):
            return reward.clamp(0, 1)
        known = torch.isfinite(reward)
        if unknown := int((~known).sum()):
            log.warning("rewards that come out as NaN or Inf are 0: %d", unknown)
        kept = known if finite is None else finite & known
        return torch.where(kept, reward.clamp(0, 1), 0.0)

    def violations(self, states: Tensor) -> dict[str, Tensor]:
        """Return the violation `[n]` of each norm; what cannot be told counts as forbidden."""
        return violations(self.norms, states)

    def violation(self, states: Tensor) -> Tensor:
        """Return the violation `[n]` of the worst norm: above 0 where a state is forbidden."""
        return torch.stack(list(self.violations(states).values())).amax(dim=0)

    def silenced(self, states: Tensor) -> Tensor:
        """Return where the reward is 0 for certain, `[n]`, without asking the encoder.

        A correction that takes the whole base reward leaves nothing, and the others take more;
        where one of them lifts the reward instead, nothing is certain.
        """
        found = torch.zeros(len(states), dtype=torch.bool)
        asked = {name for correction in self._corrections for name in correction.norms()}
        by_norm = violations({name: self.norms[name] for name in sorted(asked)}, states)
        view = View(states, violations=by_norm)
        if any(correction.lifts() for correction in self._corrections):
            return found
        for correction in self._corrections:
            if (silences := correction.silences(view)) is not None:
                found |= silences
        return found

    def flawed(self, states: NDArray[np.float64], floor: float) -> NDArray[np.bool_]:
        """Return which of `states [n, d]` are flaws: endorsed, and forbidden by a norm, `[n]`."""
        with torch.no_grad():
            forbidden = self.violation(torch.from_numpy(np.array(states))) > 0
        return np.asarray(forbidden.numpy() & (self(states) > floor))

    def explain(self, states: Any) -> list[Explanation]:
        """Return, for each of the states `[n, d]`, why it gets its reward."""
        if isinstance(states, Tensor):
            self._check_tensor(states)
            states = states.detach().to("cpu", torch.float64).numpy()
        return explain(self, self._array(states).astype(np.float64))

    def _array(self, states: Any) -> NDArray[Any]:
        """Return states as an array of numbers; what a masked array hides becomes NaN."""
        array = number_array(states, "states")
        self._check_shape(array.shape)
        return array

    def _check_tensor(self, states: Tensor) -> None:
        self._check_shape(tuple(states.shape))
        if states.dtype == torch.bool or states.is_complex() or states.layout != torch.strided:
            got = f"dtype {states.dtype}, layout {states.layout}"
            raise DataError("states must be a dense tensor of integers or floats", got=got)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or shape[1] != self.width:
            raise DataError(
                f"states must have the shape [n, {self.width}]",
                got=f"shape {list(shape)}",
                known=self.demonstrations.feature_names,
                next_step="a single state is written as one row",
            )
