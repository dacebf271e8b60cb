"""The base class of each strategy kind: what a plugin author implements.

A strategy is built once per chain from its options and then called; it keeps no global state
and draws randomness only from the `Context` it is handed. Tensors are float64 unless said
otherwise; `n` is the number of states and `d` the number of features.
"""

from __future__ import annotations

import abc
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import attrs

from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.records import Concern, Demonstrations, Family, Flaws, Report, Suspects
from iirl_engine.repair import Proposal, Repair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Mapping as MappingOf
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from iirl_engine.corrections.base import Correction
    from iirl_engine.target import Target

__all__ = [
    "Abilities",
    "Auditor",
    "Autoencoders",
    "Candidate",
    "Code",
    "Concern",
    "Context",
    "Encoder",
    "Executor",
    "Failure",
    "Gate",
    "Mapping",
    "Norm",
    "Operation",
    "Proposal",
    "Refiner",
    "Reporter",
    "Schedule",
    "Source",
    "Strategy",
    "Triage",
]

O = TypeVar("O")
A = TypeVar("A")
# One operation of a formula, as JSON: its name under `op`, and what it is applied to.
Operation = dict[str, Any]
B = TypeVar("B")


@attrs.frozen
class Context:
    """What a strategy may know of the run that calls it.

    Parameters
    ----------
    kind, id
        The strategy's kind and its id in the chain.
    seed
        The run's seed.
    round
        0 while the reward is learned, then the round's number.
    """

    kind: str
    id: str
    seed: int
    round: int

    def generator(self) -> np.random.Generator:
        """Return this strategy's own NumPy stream: the same for the same seed, id and round."""
        import numpy as np

        return np.random.default_rng(self._entropy())

    def torch_generator(self) -> torch.Generator:
        """Return this strategy's own torch stream: the same for the same seed, id and round."""
        import torch

        return torch.Generator().manual_seed(self._entropy() >> 1)

    def _entropy(self) -> int:
        name = f"{self.seed}/{self.kind}/{self.id}/{self.round}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


class Strategy(abc.ABC, Generic[O]):
    """Anything a chain can name with `use`; built from its options, then called."""

    def __init__(self, options: O) -> None:
        self.options = options


class Source(Strategy[O]):
    """Where demonstrations come from."""

    @abc.abstractmethod
    def load(self, context: Context) -> Demonstrations:
        """Return the demonstrations, made by `iirl_engine.demonstrations.check`.

        Raises
        ------
        DataError
            When the data cannot be used; the message says which file, row and feature.
        """


class Code(NamedTuple):
    """What an encoder says of states: `features [n, k]` and expertness `loss [n]`, >= 0."""

    features: Tensor
    loss: Tensor


@attrs.frozen(kw_only=True)
class Abilities:
    """What an encoder can do besides telling experts from strangers; the kit tests each claim.

    Parameters
    ----------
    negatives
        Whether it learns from `Demonstrations.negatives`: they are ignored, used when there are
        some, or it cannot do without.
    gradient
        The loss has a useful gradient almost everywhere.
    unlearning
        `unlearn` leaves what a fit on the rest alone would, to 1e-6.
    incremental
        `extend` learns from more demonstrations without starting anew.
    """

    negatives: Literal["ignored", "optional", "required"] = "ignored"
    gradient: bool = True
    unlearning: bool = False
    incremental: bool = False


class Autoencoders(abc.ABC):
    """The autoencoder experts behind an encoder's loss: what structure-aware auditors read.

    A state that one of them maps to itself, s = D_k(E_k(s)), has little loss wherever it lies; and
    every such state lies in the image of a decoder D_k.
    """

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many experts there are."""

    @abc.abstractmethod
    def code(self, states: Tensor, expert: int) -> Tensor:
        """Return E_k(s), `[n, b]`, of `states [n, d]` for expert k."""

    @abc.abstractmethod
    def decode(self, code: Tensor, expert: int) -> Tensor:
        """Return D_k(z), states `[n, d]`, of codes `[n, b]` for expert k."""


class Encoder(Strategy[O]):
    """E_θ: how unlike the expert a state is, as an expertness loss L(s) >= 0.

    Small loss means like the expert. Rows must not depend on their batch, and the loss must be
    differentiable with respect to the states almost everywhere, unless `abilities` denies it.

    Eq. 2 weighs expert state i by β(s_i, t_i) and each negative by β(s, 0): those are
    `demonstrations.weights` and `demonstrations.negative_weights`, None where all are 1.
    Without negatives the contrast is implicit: what is unlike the expert gets a high loss.
    """

    abilities: ClassVar[Abilities] = Abilities()

    @abc.abstractmethod
    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        """Learn from expert states, and from negatives where there are some and it can."""

    @abc.abstractmethod
    def encode(self, states: Tensor) -> Code:
        """Return the code of float64 `states [n, d]`."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return everything that `fit` learned, for a release."""

    @abc.abstractmethod
    def restore(self, tensors: MappingOf[str, Tensor], demonstrations: Demonstrations) -> None:
        """Take back what `tensors` returned; the release keeps the expert states themselves."""

    def uncertainty(self, states: Tensor) -> Tensor | None:
        """Return how little the loss of each of `states [n, d]` can be relied on, `[n]` >= 0.

        In any unit: the engine ranks it among the held-out demonstrations. None, the default,
        has the engine take the distance to the nearest expert state.
        """
        return None

    def loss_and_gradient(self, states: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return L of each of finite `states [n, d]`, `[n]`, and its gradient `[n, d]`.

        For encoders that know it in closed form: the engine asks when an auditor wants the
        reward's gradient. It must be the one that autograd finds. None, the default, has the
        engine differentiate `encode`.
        """
        return None

    def autoencoders(self) -> Autoencoders | None:
        """Return the autoencoder experts whose error of reconstruction is the loss, if it has any.

        None, the default, has auditors search without them.
        """
        return None

    def formula(self) -> list[Operation] | None:
        """Return the loss as a list of operations on what `tensors` returns, for certificates.

        Value 0 is the state; operation i makes value i from earlier ones, named by number under
        `of`; the last value is the loss. Values are tables `[k, m]`, of one row where not said
        otherwise, and other words name tensors of `tensors`:

        - `scale` (of, center, spread, farthest): (x - center) / spread, cut at +-farthest
        - `affine` (of, weight, bias): W x + b, weight `[m, d]`; or `[k, m, d]` for k rows, each
          from its own row of x or all from the one there is
        - `relu` (of)
        - `mixture` (of = [z, y]): Σ_k w_k y_k with w = softmax(z), z of k numbers, y of k rows
        - `subtract` (of = [x, y])
        - `mean-square` (of): Σ x_i^2 / m, the loss

        The formula is part of a release. None, the default, has certificates take the base reward
        for 1: they hold where corrections alone suppress it.
        """
        return None

    def unlearn(self, rest: Demonstrations) -> None:
        """Forget every demonstration but the `rest`, as though fitted on those alone.

        Only encoders whose `abilities.unlearning` says so can, before or after `restore`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot unlearn exactly; fit it anew")

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        """Learn on from `demonstrations`: all of them, those it was fitted on first.

        Only encoders whose `abilities.incremental` says so can, before or after `restore`.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from all at once; fit it anew")


class Mapping(Strategy[O]):
    """g_ψ: from expertness loss to reward, monotone non-increasing, into [0, 1]."""

    @abc.abstractmethod
    def fit(self, loss: Tensor, context: Context) -> None:
        """Learn from the demonstrations' losses `[n]`."""

    @abc.abstractmethod
    def map(self, loss: Tensor) -> Tensor:
        """Return the base reward `[n]` of losses `[n]`."""

    def reward_and_slope(self, loss: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the base reward of losses `[n]` and its derivative dg/dL, `[n]` each.

        For mappings that know it in closed form; it must be the one that autograd finds. None,
        the default, has the engine differentiate `map`.
        """
        return None

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return everything that `fit` learned, for a release."""

    @abc.abstractmethod
    def restore(self, tensors: MappingOf[str, Tensor]) -> None:
        """Take back what `tensors` returned."""

    def formula(self) -> Operation | None:
        """Return the curve as one operation, for certificates; words name tensors of `tensors`.

        - `exp` (limits, steepness): exp(-steepness (L - low) / (high - low)), at most 1
        - `linear` (cap): 1 - clip(L / cap, 0, 1)
        - `sigmoid` (shape): logistic((middle - L) / width) / logistic(middle / width), or 1
        - `isotonic` (knots, values): straight lines between them

        None, the default, leaves nothing known of the base reward.
        """
        return None


class Schedule(Strategy[O]):
    """β(s, t): how strongly the reward is applied, from 0 to 1; it never rises with time.

    The reward is R(s, t) = β(s, t) R(s). An audit looks at t = 0, where β is largest.
    """

    def norms(self) -> tuple[str, ...]:
        """Return the ids of the norms that `strength` asks about; by default none."""
        return ()

    @abc.abstractmethod
    def strength(self, states: Tensor, t: Tensor, violations: MappingOf[str, Tensor]) -> Tensor:
        """Return β `[n]` of `states [n, d]` at times `t [n]` >= 0.

        `violations` gives, for each norm that `norms` names, the violation `[n]` of each state.
        """


class Norm(Strategy[O]):
    """A formal constraint on states."""

    @abc.abstractmethod
    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        """Settle what depends on the data, such as which column a feature name means."""

    @abc.abstractmethod
    def violation(self, states: Tensor) -> Tensor:
        """Return `[n]`: above 0 where a state is forbidden, by how far; otherwise <= 0.

        The measure is continuous and differentiable almost everywhere, in the units of the
        states it constrains; adversarial auditors and refiners follow it.
        """

    def reach(self) -> float | None:
        """Return how far apart states may lie and still count as near, if the norm can tell.

        A Euclidean distance; flaws that lie so close to each other belong to one region.
        """
        return None

    def tensors(self) -> dict[str, Tensor]:
        """Return what `fit` settled, for a release; by default nothing."""
        return {}

    def formula(self) -> Operation | None:
        """Return the violation as one operation, for certificates.

        - `support` (boundary): distance to the nearest demonstration minus a tensor of `tensors`
        - `box` (columns, low, high, forbid): excess over the box, in the largest coordinate;
          depth inside it when `forbid`
        - `linear` (a, b): (a·s - b) / |a|

        None, the default: no certificate can be given for a reward with this norm.
        """
        return None

    @abc.abstractmethod
    def restore(self, tensors: MappingOf[str, Tensor], demonstrations: Demonstrations) -> None:
        """Take back what `tensors` returned."""


class Auditor(Strategy[O]):
    """Looks for states that the reward endorses although a norm forbids them.

    The engine verifies every reported state with the reward and the norms, so an auditor
    reports what it suspects and needs no verdict of its own. Every auditor's options have a
    `budget`, its reward queries per round.

    What no norm can decide, such as that standing still earns as much as the expert, is a
    `Concern`: it opens no flaw and is told to a person.

    Attributes
    ----------
    family
        Where it looks.
    exhaustive
        Whether it ends when it has looked at all there is for it to look at, by however few
        queries, as a proof does; of any other auditor a run says so when it was clean and asked
        next to nothing.
    """

    family: ClassVar[Family]
    exhaustive: ClassVar[bool] = False

    @abc.abstractmethod
    def audit(self, target: Target, context: Context) -> Iterator[Tensor | Suspects | Concern]:
        """Yield suspected states, and concerns, until `target.remaining` is spent.

        States as tensors `[m, d]`, or as `Suspects` where there is evidence how unlike the
        demonstrations they are. What was yielded before a crash is kept.
        """

    def lead(self, members: MappingOf[str, Auditor[Any]]) -> None:
        """Take the auditors, by id, that an option made with `members=True` names.

        They run under this one alone, each on a `target.part` of its budget.
        """
        raise NotImplementedError(f"{type(self).__name__} leads no other auditors")


class Triage(Strategy[O]):
    """Puts confirmed flaws in the order in which they deserve attention."""

    @abc.abstractmethod
    def rank(self, flaws: Flaws, context: Context) -> NDArray[np.int64]:
        """Return a permutation of the row numbers, most urgent first."""


class Refiner(Strategy[O]):
    """Proposes corrections that close flaws and spare known-good states.

    Attributes
    ----------
    needs
        What the reward must offer, checked before anything is audited: `negatives` (the
        demonstrations have some), `contrast` (the encoder learns from negatives), `unlearn` (it
        unlearns exactly), `gradient` (its loss has a useful one), `formula` (encoder and mapping
        declare theirs), `norm` (there is one).
    tidies
        Whether it is asked even when those before it left no flaw open, such as to merge
        corrections.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    tidies: ClassVar[bool] = False

    @abc.abstractmethod
    def propose(self, repair: Repair, context: Context) -> Proposal | Sequence[Correction]:
        """Return what to add to the reward, and what it is expected to do.

        A plain sequence of corrections says nothing of that; an empty one proposes nothing.
        """


class Gate(Strategy[O]):
    """Judges a candidate before it may be released."""

    @property
    def cap(self) -> float | None:
        """Reward that a known-good state may lose since release 0, where the gate limits it.

        The engine itself holds the strictest of a chain's caps, whatever else the gates say;
        without any it is 0.10. None, the default, sets none.
        """
        return None

    @abc.abstractmethod
    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        """Return the judgement and the numbers behind it."""


@attrs.frozen
class Failure:
    """A job that raised: the exception's class and message, and its traceback."""

    reason: str
    traceback: str


class Executor(Strategy[O]):
    """Runs independent jobs; results do not depend on which executor runs them."""

    @abc.abstractmethod
    def map(self, function: Callable[[A], B], items: Sequence[A]) -> list[B | Failure]:
        """Return `function` of each item, in order; one that raised comes back as a `Failure`."""

    def each(
        self, function: Callable[[A], B], items: Sequence[A]
    ) -> Iterator[tuple[int, B | Failure]]:
        """Yield (place, result) of each item as soon as it is there, in any order.

        By default all are there at once, when `map` returns. What was yielded is kept when the
        process ends, so an executor that can tell earlier should.
        """
        yield from enumerate(self.map(function, items))


class Reporter(Strategy[O]):
    """Writes a report of a run."""

    @abc.abstractmethod
    def write(self, report: Report, folder: Path) -> list[Path]:
        """Write files under `folder` and return their paths."""
