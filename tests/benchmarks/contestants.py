"""Our auditors as contestants of the planted-flaw benchmark in `../shared/bench`.

Executed by its `peers.py --plugin`; `python -m tests.benchmarks.audit` does so. The task's reward
becomes a reward model whose every evaluation goes through the benchmark's oracle, which counts it;
passes through single autoencoders are billed by `oracle.charge`. The auditors are the product's,
run as a round of the flywheel would run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from benchlib.contestants import contestant
from benchlib.task import BudgetExhausted
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine import Code, Context, Domain, Encoder, Kernels, RewardModel, View
from iirl_engine import Mapping as RewardMapping
from iirl_engine.api import Autoencoders, Norm
from iirl_engine.demonstrations import check
from iirl_engine.options import build_options
from iirl_engine.plugins import Plugins
from iirl_engine.records import Suspects
from iirl_engine.registry import Registry
from iirl_engine.target import BudgetExceeded, Target

# The chain that the documentation recommends, with each auditor's share of the budget.
DEFAULT: tuple[tuple[str, float], ...] = (
    ("correction-probe", 0.05),
    ("shell", 0.1),
    ("fixed-point", 0.95),
    ("preimage", 0.5),
    ("pgd", 1.0),
)


class _Oracle(Encoder[None]):
    """Loss -log R(s), asked of the benchmark's oracle."""

    def __init__(self, oracle: Any) -> None:
        super().__init__(None)
        self._oracle = oracle

    def fit(self, demonstrations: Any, context: Context) -> None: ...

    def encode(self, states: Tensor) -> Code:
        log_reward = self._oracle.log_reward(states.float()).double()
        return Code(states, -log_reward)

    def autoencoders(self) -> Autoencoders | None:
        experts = getattr(self._oracle.model, "experts", None)
        return None if experts is None else _Experts(experts, self._oracle)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Any) -> None: ...


class _Experts(Autoencoders):
    """The task's autoencoders, billed half a forward pass a time as the engine bills its own."""

    def __init__(self, experts: Any, oracle: Any) -> None:
        self._experts, self._oracle = experts, oracle

    @property
    def count(self) -> int:
        return len(self._experts)

    def code(self, states: Tensor, expert: int) -> Tensor:
        self._oracle.charge((len(states) + 1) // 2)
        return self._experts[expert].enc(states.float()).double()

    def decode(self, code: Tensor, expert: int) -> Tensor:
        self._oracle.charge((len(code) + 1) // 2)
        return self._experts[expert].dec(code.float()).double()


class _Exp(RewardMapping[None]):
    def fit(self, loss: Tensor, context: Context) -> None: ...

    def map(self, loss: Tensor) -> Tensor:
        return torch.exp(-loss).clamp(max=1)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None: ...


class _Far(Norm[None]):
    """Forbids what is farther from the training states than the task's delta, with a margin."""

    def __init__(self, boundary: float, support: Any) -> None:
        super().__init__(None)
        self._boundary, self._support = boundary, support

    def fit(self, demonstrations: Any, context: Context) -> None: ...

    def violation(self, states: Tensor) -> Tensor:
        distance: Tensor = self._support.distance(states)
        return distance - self._boundary

    def reach(self) -> float:
        return self._boundary

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Any) -> None: ...


def reward_model(task: Any, oracle: Any) -> RewardModel:
    """Return the task's reward as the engine's, asked through the oracle."""
    box = float(task.box)
    domain = Domain((-box,) * task.d, (box,) * task.d)
    data = check(task.train.astype(np.float64), domain=domain)
    corrections = ()
    if hasattr(task.model, "centres"):  # needles are in the artifact's list of corrections
        centers = task.model.centres.numpy().astype(np.float64)
        corrections = (
            _Needles(
                id="needles",
                refiner="task",
                round=1,
                centers=centers,
                radii=np.full(len(centers), float(task.model.w)),
                strengths=np.full(len(centers), 1e-9),
                profile="gaussian",
            ),
        )
    norms = {"support": _Far(task.delta, data.support)}
    return RewardModel(_Oracle(oracle), _Exp(None), norms, data, domain, corrections)


class _Needles(Kernels):
    """The task's needles: the oracle's reward holds them already, so they add nothing here."""

    def suppression(self, view: View) -> Tensor:
        return torch.zeros_like(view.base)


def audited(
    chain: Sequence[tuple[str, float]],
) -> Callable[[Any, Any, np.random.Generator], NDArray[np.float32]]:
    """Return a contestant that runs a chain, each auditor with its share of what is left."""
    registry = Registry(Plugins())

    def run(task: Any, oracle: Any, rng: np.random.Generator) -> NDArray[np.float32]:
        model = reward_model(task, oracle)
        seed = int(rng.integers(2**31))
        found: list[Tensor] = [torch.empty((0, task.d), dtype=torch.float64)]
        for name, share in chain:
            entry = registry.find("auditor", name)
            budget = max(1, int(share * oracle.left))
            options = build_options(entry.offer.options, {"budget": budget}, name, [], None)
            target = Target(model, float(task.r_star), budget)
            try:
                for states in _states(
                    entry.build(options), target, Context("audit", name, seed, 1)
                ):
                    found.append(states)
            except BudgetExhausted:  # the oracle says so as soon as nothing is left
                break
        states = torch.cat(found)
        # The truth is a distance to more expert states than an auditor has: to one of them it may
        # be shorter by as much as the auditor's own lie apart.
        support = model.demonstrations.support
        clear = support.distance(states) > task.delta + support.gap
        return states[clear].numpy().astype(np.float32)

    return run


def _states(auditor: Any, target: Target, context: Context) -> Iterator[Tensor]:
    try:
        for yielded in auditor.audit(target, context):
            if isinstance(yielded, Tensor):
                yield yielded.clone()
            elif isinstance(yielded, Suspects):
                yield yielded.states.clone()
    except BudgetExceeded as error:  # would be reported as over-budget by a round
        raise AssertionError(f"{context.id} exceeded its budget") from error


contestant("iirl/default-chain")(audited(DEFAULT))
for _name in ("fixed-point", "preimage", "decoder-image", "correction-probe", "pgd"):
    contestant(f"iirl/{_name}")(audited([(_name, 1.0)]))
