"""One strategy of every kind, as short as it can be and still be right."""

from __future__ import annotations

import numpy as np
import torch

from iirl_engine import api
from iirl_engine.api import Abilities, Code, Concern, Failure, Judgement, Proposal
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.demonstrations import check


class Source(api.Source):
    def load(self, context):
        states = context.generator().normal(size=(20, 3))
        return check(states, origin="careful")


def derived(function, at):
    """Return a function's values and derivative, whatever the function is."""
    with torch.enable_grad():
        asked = at.detach().clone().requires_grad_(True)
        value = function(asked)
        (derivative,) = torch.autograd.grad(value.sum(), asked)
    return value.detach(), derivative


class Encoder(api.Encoder):
    abilities = Abilities(negatives="optional", unlearning=True, incremental=True)

    def fit(self, demonstrations, context):
        jitter = context.generator().normal(size=3)
        self.jitter = torch.tensor(1e-3 * jitter)
        self.settle(demonstrations)

    def settle(self, demonstrations):
        self.mean = torch.tensor(demonstrations.states.mean(axis=0)) + self.jitter
        negatives = torch.tensor(demonstrations.negatives)
        self.apart = negatives.mean(dim=0) - self.mean if len(negatives) else 0 * self.mean

    def unlearn(self, rest):
        self.settle(rest)

    def extend(self, demonstrations, context):
        self.settle(demonstrations)

    def encode(self, states):
        away = states - self.mean
        toward = (away * self.apart).clamp(min=0)
        loss = (away.square() + toward).sum(dim=1)
        return Code(states, loss)

    def loss_and_gradient(self, states):
        loss, gradient = derived(lambda asked: self.encode(asked).loss, states)
        return loss, gradient

    def uncertainty(self, states):
        return (states - self.mean).abs().amax(dim=1)

    def autoencoders(self):
        return Autoencoders(self.mean)

    def tensors(self):
        return {"mean": self.mean, "apart": self.apart, "jitter": self.jitter}

    def restore(self, tensors, demonstrations):
        self.mean, self.apart = tensors["mean"], tensors["apart"]
        self.jitter = tensors["jitter"]


class Autoencoders(api.Autoencoders):
    count = 1

    def __init__(self, mean):
        self.mean = mean

    def code(self, states, expert):
        return (states - self.mean)[:, :1]

    def decode(self, code, expert):
        return self.mean + code


class Mapping(api.Mapping):
    def fit(self, loss, context):
        self.scale = loss.mean().clamp(min=1e-6).reshape(1)

    def map(self, loss):
        return torch.exp(-loss / self.scale)

    def reward_and_slope(self, loss):
        reward, slope = derived(self.map, loss)
        return reward, slope

    def tensors(self):
        return {"scale": self.scale}

    def restore(self, tensors):
        self.scale = tensors["scale"]


class Schedule(api.Schedule):
    def strength(self, states, t, violations):
        return torch.exp(-t / 100)


class Norm(api.Norm):
    def fit(self, demonstrations, context):
        states = torch.tensor(demonstrations.states)
        self.mean = states.mean(dim=0)
        self.radius = self.options.reach * (states - self.mean).norm(dim=1).amax().reshape(1)

    def violation(self, states):
        return torch.linalg.vector_norm(states - self.mean, dim=1) - self.radius

    def tensors(self):
        return {"mean": self.mean, "radius": self.radius}

    def restore(self, tensors, demonstrations):
        self.mean, self.radius = tensors["mean"], tensors["radius"]


class Auditor(api.Auditor):
    family = "out-of-distribution"

    def audit(self, target, context):
        highest = 0.0
        generator = context.generator()
        while target.remaining > 0:
            count = min(256, target.remaining)
            share = torch.tensor(generator.random((count, len(target.low))))
            states = target.low + share * (target.high - target.low)
            reward = target.reward(states)
            suspect = (reward > target.floor) & (target.violation(states) > 0)
            yield states[suspect]
            highest = max(highest, float(reward.max()))
        yield Concern("highest-reward", "Is it as high as it ought to be?", {"reward": highest})


class Triage(api.Triage):
    def rank(self, flaws, context):
        return np.argsort(-flaws.violations, kind="stable")


class Refiner(api.Refiner):
    def propose(self, repair, context):
        count = len(repair.flaws)
        radii = np.full(count, 0.15)
        strengths = np.ones(count)
        kernels = Kernels(
            id=f"r{context.round}-careful",
            refiner=context.id,
            round=context.round,
            centers=repair.flaws.states,
            radii=radii,
            strengths=strengths,
        )
        model = repair.model.with_corrections([kernels])
        closed = int((model(repair.flaws.states) <= repair.floor).sum())
        return Proposal([kernels], closes=closed)


class Gate(api.Gate):
    def judge(self, candidate, evidence, context):
        lost = evidence.original - candidate.model(evidence.known_good)
        worst = float(lost.max())
        ok = worst <= 0.5
        reason = "" if ok else f"a known-good state loses {worst:.3g}"
        blames = tuple(correction.id for correction in candidate.corrections)
        return Judgement(context.id, ok, {"worst": worst}, reason, blames or None)


class Executor(api.Executor):
    def map(self, function, items):
        results = []
        for item in items:
            try:
                results.append(function(item))
            except Exception as error:
                results.append(Failure(f"{type(error).__name__}: {error}", ""))
        return results


class Reporter(api.Reporter):
    def write(self, report, folder):
        file = folder / "open.txt"
        file.write_text(f"open flaws: {int(report.still_open.sum())}\n")
        return [file]
