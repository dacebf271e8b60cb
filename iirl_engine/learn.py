"""How a chain and its demonstrations become a reward: norms, encoder, mapping, in this order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context
from iirl_engine.blame import blame
from iirl_engine.chain import ID, Chain, Step
from iirl_engine.demonstrations import hold_out, widened_range
from iirl_engine.errors import ChainError, PluginError, Problem
from iirl_engine.options import build_options
from iirl_engine.records import Demonstrations
from iirl_engine.registry import UnknownStrategy
from iirl_engine.reward import RewardModel

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


def learn(chain: Chain, data: Demonstrations) -> RewardModel:
    """Return the reward as learned from the demonstrations, before any correction."""
    norms: dict[str, Any] = {}
    for step in norm_steps(chain, data):
        norms[step.id] = step.build()
        with blame(step, "settle on the demonstrations"):
            norms[step.id].fit(data, _context(chain, "norm", step))
    encoder, mapping = chain.encoder.build(), chain.mapping.build()
    with blame(chain.encoder, "learn from the demonstrations"):
        encoder.fit(data, _context(chain, "encoder", chain.encoder))
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
    domain = chain.domain or data.domain or widened_range(data.states)
    if len(domain.low) != len(data.feature_names):
        problem = Problem(
            "domain", f"has {len(domain.low)} features, the states have {len(data.feature_names)}"
        )
        raise ChainError([problem], where=chain.path)
    model = RewardModel(encoder, mapping, norms, data, domain)
    _check_values(chain, model)
    return model


def _check_values(chain: Chain, model: RewardModel) -> None:
    """Refuse parts that have no value for the demonstrations: 0 everywhere is no clean reward."""
    data = model.demonstrations
    states = torch.tensor(data.states)
    with torch.no_grad(), blame(chain.mapping, "map the losses of the demonstrations"):
        if not torch.isfinite(model.base(states)).all():
            raise ValueError("a reward is NaN or Inf")
    for step in norm_steps(chain, data):
        alone = {step.id: model.norms[step.id]}
        with torch.no_grad(), blame(step, "measure the demonstrations"):
            RewardModel(model.encoder, model.mapping, alone, data, model.domain).violation(states)


def known_good_states(data: Demonstrations, model: RewardModel) -> tuple[Array, int]:
    """Return the states `[k, d]` whose reward must be kept, and how many more norms forbid.

    Known good are the expert states, held out or not, and what the source knows to be good.
    """
    states = np.concatenate([data.states, data.held_out, data.known_good])
    with torch.no_grad():
        forbidden = (model.violation(torch.tensor(states)) > 0).numpy()
    return states[~forbidden], int(forbidden.sum())


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
