"""How a chain and its demonstrations become a reward: norms, schedule, encoder, mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_engine.api import Context, Encoder, Norm, Schedule
from iirl_engine.blame import blame
from iirl_engine.chain import Chain, Step
from iirl_engine.chain_file import ID
from iirl_engine.demonstrations import hold_out, read_only, widened_range
from iirl_engine.errors import ChainError, DataError, PluginError, Problem
from iirl_engine.options import build_options
from iirl_engine.records import Demonstrations, Domain
from iirl_engine.registry import UnknownStrategy
from iirl_engine.reward import RewardModel, violations
from iirl_engine.screening import Screening, screen

Array = NDArray[np.float64]


def load_demonstrations(chain: Chain) -> Demonstrations:
    """Return what the source loads, with the share held out that the chain asks for."""
    step = chain.source
    source = step.build()
    with blame(step, "load the demonstrations"):
        data: Demonstrations = source.load(_context(chain, "source", step))
        if not isinstance(data, Demonstrations):
            raise TypeError(f"it returned {type(data).__name__}, no Demonstrations")
    if chain.settings.held_out > 0:
        splitter = Context("flywheel", "held-out", chain.settings.seed, 0)
        data = hold_out(data, chain.settings.held_out, splitter.generator())
    return data


def norm_steps(chain: Chain, data: Demonstrations) -> tuple[Step, ...]:
    """Return the chain's norms, then those that the source brings along.

    Raises
    ------
    ChainError
        When a norm of the source is not available, has wrong options or a taken id.
    """
    problems: list[Problem] = []
    steps = (*chain.norms, *_source_norms(chain, data, problems))
    if problems:
        raise ChainError(problems, where=chain.path)
    return steps


def keep_allowed(chain: Chain, data: Demonstrations) -> tuple[Demonstrations, Screening]:
    """Return the demonstrations that no norm forbids, and what was dropped and why."""
    return screen(data, _fit_norms(chain, data))


def learn(chain: Chain, data: Demonstrations) -> RewardModel:
    """Return the reward as learned from the demonstrations, before any correction."""
    norms = _fit_norms(chain, data)
    encoder, mapping = chain.encoder.build(), chain.mapping.build()
    schedule = _schedule(chain, norms)
    _check_negatives(chain, encoder, data)
    model = RewardModel(encoder, mapping, norms, data, _domain(chain, data), schedule=schedule)
    with torch.no_grad(), blame(chain.schedule, "weigh the demonstrations"):
        weights = weighed(model, data)
    with blame(chain.encoder, "learn from the demonstrations"):
        encoder.fit(weights, _context(chain, "encoder", chain.encoder))
        with torch.no_grad():
            loss = encoder.encode(torch.tensor(data.states)).loss
        if not isinstance(loss, torch.Tensor):
            raise TypeError(f"its loss is {type(loss).__name__}, no tensor")
    if loss.shape != (len(data.states),) or not torch.isfinite(loss).all():
        raise PluginError(
            f"encoder {chain.encoder.entry.qualified} gives demonstrations no finite loss",
            got=f"shape {list(loss.shape)}, {int((~torch.isfinite(loss)).sum())} not finite",
            next_step="rescale the demonstrations or choose another encoder",
        )
    with blame(chain.mapping, "learn from the losses"):
        mapping.fit(loss, _context(chain, "mapping", chain.mapping))
    _check_values(chain, model)
    return model


def _fit_norms(chain: Chain, data: Demonstrations) -> dict[str, Norm[Any]]:
    norms: dict[str, Norm[Any]] = {}
    for step in norm_steps(chain, data):
        norms[step.id] = step.build()
        try:
            with blame(step, "settle on the demonstrations"):
                norms[step.id].fit(data, _context(chain, "norm", step))
        except DataError as error:
            # A norm knows what is wrong, and not which of the chain's norms it is.
            error.where = error.where or f"norm {step.id} in {chain.path}"
            raise
    for step in norm_steps(chain, data):
        with torch.no_grad(), blame(step, "measure the demonstrations"):
            violations({step.id: norms[step.id]}, torch.tensor(data.states))
    return norms


def _schedule(chain: Chain, norms: Mapping[str, Norm[Any]]) -> Schedule[Any]:
    schedule: Schedule[Any] = chain.schedule.build()
    if unknown := [name for name in schedule.norms() if name not in norms]:
        hint = f"known: {', '.join(norms)}"
        problem = Problem("schedule", f"no norm has the id {unknown[0]!r}", hint)
        raise ChainError([problem], where=chain.path)
    return schedule


def _domain(chain: Chain, data: Demonstrations) -> Domain:
    domain = chain.domain or data.domain or widened_range(data.states)
    if len(domain.low) != len(data.feature_names):
        problem = Problem(
            "domain", f"has {len(domain.low)} features, the states have {len(data.feature_names)}"
        )
        raise ChainError([problem], where=chain.path)
    return domain


def _check_negatives(chain: Chain, encoder: Encoder[Any], data: Demonstrations) -> None:
    if encoder.abilities.negatives == "required" and not len(data.negatives):
        raise DataError(
            f"encoder {chain.encoder.entry.qualified} learns from negatives, and there are none",
            where=data.origin,
            next_step="give the source states that are known not to be expert, such as those of "
            "a random policy, or choose an encoder that does without",
        )


def weighed(model: RewardModel, data: Demonstrations) -> Demonstrations:
    """Return demonstrations whose weights are multiplied by β(s, t), of negatives by β(s, 0)."""
    t = np.zeros(len(data.states)) if data.t is None else np.maximum(data.t - data.t.min(), 0)
    weights = model.strength(torch.tensor(data.states), torch.tensor(t))
    negatives = torch.tensor(data.negatives)
    beside = model.strength(negatives, torch.zeros(len(negatives), dtype=torch.float64))
    if (weights == 1).all() and (beside == 1).all():
        return data
    if not (weights > 0).any() or (len(beside) and not (beside > 0).any()):
        raise ValueError("it gives every demonstration, or every negative, the weight 0")
    return attrs.evolve(
        data,
        weights=_times(weights, data.weights),
        negative_weights=_times(beside, data.negative_weights),
    )


def _times(strength: Tensor, weights: Array | None) -> Array:
    return read_only(strength.numpy() * (1.0 if weights is None else weights))


def _check_values(chain: Chain, model: RewardModel) -> None:
    """Refuse parts that have no value for the demonstrations: 0 everywhere is no clean reward."""
    states = torch.tensor(model.demonstrations.states)
    with torch.no_grad(), blame(chain.mapping, "map the losses of the demonstrations"):
        if not torch.isfinite(model.base(states)).all():
            raise ValueError("a reward is NaN or Inf")


def _source_norms(chain: Chain, data: Demonstrations, problems: list[Problem]) -> Iterator[Step]:
    taken = {step.id for step in chain.norms}
    for spec in data.norms:
        path = f"source {chain.source.id}, norm {spec.id}"
        try:
            entry = chain.registry.find("norm", spec.use)
        except UnknownStrategy as error:
            problems.append(Problem(path, error.message, error.hint))
            continue
        options = build_options(entry.offer.options, spec.options, path, problems, None)
        if spec.id in taken:
            problems.append(Problem(path, "the id is taken by another norm"))
        if not (isinstance(spec.id, str) and re.fullmatch(ID, spec.id)):
            problems.append(Problem(path, "an id is made of letters, digits, - and _"))
        taken.add(spec.id)
        if options is not None:
            yield Step(spec.id, entry, options)


def _context(chain: Chain, kind: str, step: Step) -> Context:
    return Context(kind, step.id, chain.settings.seed, 0)
