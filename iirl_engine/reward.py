"""The reward model, R(s, t) = β(s, t) clip(g(L(s)) - suppression + lift, 0, 1), and its reasons."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import api
from iirl_engine.corrections.base import Correction, View
from iirl_engine.corrections.revision import Revision
from iirl_engine.demonstrations import number_array
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations, Domain
from iirl_engine.uncertainty import Coverage, Rank

log = logging.getLogger(__name__)

_ROWS = 2**16


@attrs.frozen(eq=False)
class Explanation:
    """Why one state gets its reward.

    Parameters
    ----------
    reward
        What the model answers.
    loss
        Expertness loss L.
    base
        Reward before corrections, g(L).
    corrections
        (id, what it takes off, below 0 when it lifts), for each correction that changes anything.
    nearest_state
        `[d]` nearest expert state.
    distance
        Euclidean distance to it.
    violated
        (norm id, by how much), for each norm that forbids the state.
    uncertainty
        u(s), from 0 to 1: the share of held-out demonstrations that are more certain.
    coverage
        From 0 to 1: how thoroughly audits probed the neighbourhood; c_a(s) is 1 - coverage.
    strength
        β(s, 0): how strongly the schedule applies the reward at first.
    """

    reward: float
    loss: float
    base: float
    corrections: tuple[tuple[str, float], ...]
    nearest_state: tuple[float, ...]
    distance: float
    violated: tuple[tuple[str, float], ...]
    uncertainty: float
    coverage: float
    strength: float

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl explain --json` prints per state."""
        return {
            "reward": self.reward,
            "loss": _finite(self.loss),
            "base": _finite(self.base),
            "corrections": {name: _finite(taken) for name, taken in self.corrections},
            "nearest_state": list(self.nearest_state),
            "distance": _finite(self.distance),
            "violated": {norm: _finite(by) for norm, by in self.violated},
            "uncertainty": self.uncertainty,
            "coverage": self.coverage,
            "strength": self.strength,
        }


def _one_each(values: Any, states: Tensor, whose: str) -> Tensor:
    """Return values that are a tensor `[n]`; anything else would be broadcast unseen."""
    if not isinstance(values, Tensor) or values.shape != states.shape[:1]:
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{whose} must be a tensor [{len(states)}], got {got}")
    return values


def _all_finite(numbers: Tensor) -> bool:
    """Say whether a sum shows that all numbers are finite; where it overflows, it does not.

    A sum takes one pass and one answer, and a NaN or Inf among the numbers never leaves it.
    """
    return math.isfinite(numbers.detach().sum())


def _known(states: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return which states are finite, None when all are, and the states with 0 for the others."""
    if _all_finite(states):
        return None, states
    finite = torch.isfinite(states).all(dim=1)
    if broken := int((~finite).sum()):
        log.warning("states with NaN or Inf get reward 0: %d", broken)
    return finite, torch.where(finite[:, None], states, 0.0)


def value_and_gradient(
    function: Callable[[Tensor], Tensor], states: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a function's values `[n]` at `states [n, d]` and, by autograd, its gradient `[n, d]`.

    Where the gradient cannot be told it is 0.
    """
    with torch.enable_grad():
        asked = states.detach().clone().requires_grad_(True)
        value = function(asked)
        if not value.requires_grad:
            return value.detach(), torch.zeros_like(asked)
        (gradient,) = torch.autograd.grad(value.sum(), asked)
    return value.detach(), _told(gradient)


def _told(gradient: Tensor) -> Tensor:
    """Return 0 where a gradient is no number: a search finds no direction there."""
    if _all_finite(gradient):
        return gradient
    return torch.where(torch.isfinite(gradient), gradient, 0.0)


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
        measured = _one_each(norm.violation(known), states, f"norm {name}")
        found[name] = torch.where(finite & torch.isfinite(measured), measured, torch.inf)
    return found


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold; None stands for infinitely much."""
    return value if math.isfinite(value) else None


# A reward of no more than this is as good as none.
_TINY = 1e-250


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
        strength = _one_each(self.schedule.strength(states, t, violations), states, "the schedule")
        return strength.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1)

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return u `[n]` of float64 `states [n, d]`: how little the reward can be relied on.

        From 0 to 1: the share of held-out demonstrations that are closer to what is known, so
        that a fresh demonstration exceeds 1 - alpha with a probability of at most alpha. Without
        held-out demonstrations each is compared with the others.
        """
        finite = torch.isfinite(states).all(dim=1)
        with torch.no_grad():
            raw = self._doubt(torch.where(finite[:, None], states, 0.0))
            return torch.where(finite, self._doubt_rank(raw), 1.0)

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
    def _doubt_rank(self) -> Rank:
        data = self.demonstrations
        if len(data.held_out):
            return Rank(self._doubt(torch.tensor(data.held_out)))
        return Rank(self._doubt(torch.tensor(data.states), data.support.spacing))

    @functools.cached_property
    def _coverage(self) -> Coverage:
        return Coverage(self.probes, np.array(self.domain.low), np.array(self.domain.high))

    def _doubt(self, states: Tensor, distance: Tensor | None = None) -> Tensor:
        """Return the raw measure: the greater of distance to support and the encoder's own.

        Each in units of what is usual among the expert states. The distance has its say always: an
        encoder may be sure of itself where it has seen nothing.
        """
        apart, own = self._usual_doubt
        if distance is None:
            distance = self.demonstrations.support.distance(states)
        raw = distance / apart
        asked = self.encoder.uncertainty(states)
        if asked is None or own is None:
            return raw
        asked = _one_each(asked, states, "the encoder's uncertainty")
        return torch.maximum(raw, (asked / own).nan_to_num(nan=torch.inf))

    @functools.cached_property
    def _usual_doubt(self) -> tuple[Tensor, Tensor | None]:
        """Of the expert states: median distance to the next one, mean of the encoder's own."""
        data = self.demonstrations
        asked = self.encoder.uncertainty(torch.tensor(data.states))
        smallest = torch.finfo(torch.float64).tiny
        apart = data.support.spacing.median().clamp(min=smallest).nan_to_num(posinf=1.0)
        return apart, None if asked is None else asked.mean().clamp(min=smallest)

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
        loss, gradient = self._loss(found[0], known), found[1]
        if not isinstance(gradient, Tensor) or gradient.shape != known.shape:
            got = list(gradient.shape) if isinstance(gradient, Tensor) else type(gradient)
            raise ValueError(f"the encoder's gradient must be {list(known.shape)}, got {got}")
        value, slope, direct = self._slopes(finite, known, loss)
        gradient = gradient * slope[:, None]
        if direct is not None:
            gradient += direct
        if finite is not None:
            gradient[~finite] = 0.0
        return value, _told(gradient)

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
        loss, downhill = self._loss(found[0], known), found[1]
        reward, slope, direct = self._slopes(finite, known, loss)
        gradient = downhill * slope[:, None]
        gradient = gradient if direct is None else gradient + direct
        told = reward > _TINY
        value = torch.where(told, reward.clamp(min=_TINY).log(), math.log(_TINY))
        gradient = torch.where(told[:, None], gradient / reward.clamp(min=_TINY)[:, None], 0.0)
        beyond = ~told & (loss > self._loss_of_nothing)
        rate = math.log(_TINY) / self._loss_of_nothing
        value = torch.where(beyond, rate * loss, value)
        gradient = torch.where(beyond[:, None], rate * downhill, gradient)
        if finite is not None:
            value, gradient[~finite] = torch.where(finite, value, math.log(_TINY)), 0.0
        return value.nan_to_num(nan=math.log(_TINY)), _told(gradient)

    @functools.cached_property
    def _loss_of_nothing(self) -> float:
        """The loss from which on the mapping gives less than 1e-250, to a share of 1e-9."""
        low, high = 1e-300, 1e300
        with torch.no_grad():
            while high > low * (1 + 1e-9):
                middle = math.sqrt(low) * math.sqrt(high)
                base = self.mapping.map(torch.tensor([middle], dtype=torch.float64))
                low, high = (middle, high) if float(base) > _TINY else (low, middle)
        return high

    def _slopes(
        self, finite: Tensor | None, states: Tensor, loss: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the reward, its derivative by the loss `[n]`, and by the states at a given loss.

        The last comes from corrections and is None without them.
        """
        if not self._corrections:
            with torch.no_grad():
                known = self.mapping.reward_and_slope(loss)
                if known is not None:
                    base, slope = (_one_each(part, states, "the mapping") for part in known)
                    value = self._corrected(finite, View(states, base))
                    return value, torch.where(value == base, slope, 0.0), None
        with torch.enable_grad():
            asked = [loss.detach().requires_grad_(True), states.clone().requires_grad_(True)]
            value = self._corrected(finite, self._view(asked[1], asked[0]))
            if not value.requires_grad:
                return value, torch.zeros_like(loss), None
            by_loss, by_states = torch.autograd.grad(value.sum(), asked, allow_unused=True)
        slope = torch.zeros_like(loss) if by_loss is None else by_loss
        return value.detach(), slope, by_states

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
        loss = _one_each(given, states, "the encoder's loss")
        # A mapping that cuts its answer to [0, 1] would take a loss of -Inf for the best of all.
        return loss.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=torch.nan)

    def _mapped(self, loss: Tensor, states: Tensor) -> Tensor:
        return _one_each(self.mapping.map(loss), states, "the mapping")

    def _corrected(self, finite: Tensor | None, view: View) -> Tensor:
        """Return the base reward less the corrections, 0 where it is no number."""
        # Asked for in one order, first: gradients add up in the order in which they come up.
        for name in sorted({name for c in self._corrections for name in c.norms()}):
            view.violations[name]
        reward = view.base
        for correction in self._corrections:
            reward = reward - correction.suppression(view)
        if finite is None and _all_finite(reward):
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
        array = self._array(states).astype(np.float64)
        if len(array) == 0:
            return []
        with torch.no_grad():
            given = torch.tensor(array)
            rewards = self.reward(given)
            known = torch.where(torch.isfinite(given).all(dim=1)[:, None], given, 0.0)
            view = self.view(known)
            loss, base = view.loss, self._learned_base(view)
            taken = [part.numpy() for part in self._shares(view)]
            violations = {name: v.numpy() for name, v in self.violations(given).items()}
            distance, nearest = self.demonstrations.support.nearest(known)
            uncertainty, coverage = self.uncertainty(given), self.coverage(given)
            strength = self.strength(known, torch.zeros(len(known), dtype=torch.float64))
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(array).all(axis=1))
        expert = self.demonstrations.states[nearest.numpy()]
        return [
            Explanation(
                reward=float(rewards[i]),
                loss=float(loss[i]) if finite[i] else float("inf"),
                base=float(base[i]) if finite[i] else 0.0,
                corrections=tuple(
                    (c.id, float(t[i]))
                    for c, t in zip(self.corrections, taken, strict=True)
                    if finite[i] and t[i] != 0
                ),
                nearest_state=tuple(expert[i].tolist()),
                distance=float(distance[i]) if finite[i] else float("inf"),
                violated=tuple((n, float(v[i])) for n, v in violations.items() if v[i] > 0),
                uncertainty=float(uncertainty[i]),
                coverage=float(coverage[i]),
                strength=float(strength[i]),
            )
            for i in range(len(array))
        ]

    def _learned_base(self, view: View) -> Tensor:
        """Return the reward before any correction, also where a revision changed it."""
        if (self.encoder, self.mapping) == self.learned:
            return view.base
        return self.evolve(corrections=()).base(view.states)

    def _shares(self, view: View) -> list[Tensor]:
        """Return what each correction takes off, `[n]`; a revision, what it takes off the base."""
        shares = []
        for number, correction in enumerate(self._corrections):
            taken = correction.suppression(view)
            if isinstance(correction, Revision):
                before, after = (
                    self.evolve(corrections=self._corrections[:until]).base(view.states)
                    for until in (number, number + 1)
                )
                taken = before - after
            shares.append(taken)
        return shares

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
