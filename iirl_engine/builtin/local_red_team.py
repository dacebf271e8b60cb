"""The gate `local-red-team`: what surrounds a correction is audited anew."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from iirl_engine.api import Context, Gate
from iirl_engine.builtin.options import LocalRedTeamOptions
from iirl_engine.corrections.kernels import Kernels
from iirl_engine.evidence import Candidate, Evidence, Judgement
from iirl_engine.local_search import Found, search_near
from iirl_engine.regions import region_scale
from iirl_engine.support import Support

Array = NDArray[np.float64]


class LocalRedTeam(Gate[LocalRedTeamOptions]):
    """Refuses a candidate around whose corrections flaws are found too easily.

    Searched are balls around every kernel that the candidate adds, as wide as it reaches, and
    around every flaw that is closed, as wide as the scale of regions: by gradient ascent from fresh
    starts, within a budget of reward queries. Where there are more balls than the budget has
    searches, an even share of them is searched. The rate is the share of searches that come upon a
    flaw; flaws near one that is on record as left open are no news and do not count. To blame are
    the kernels in whose balls some do.
    """

    def judge(self, candidate: Candidate, evidence: Evidence, context: Context) -> Judgement:
        centers, radii, names = _balls(candidate, evidence)
        steps = self.options.steps
        most = max(1, self.options.budget // (2 * steps + 1))
        if not len(centers):
            return Judgement(context.id, True, {"balls": 0.0, "searches": 0.0, "rate": 0.0})
        chosen = np.unique(np.linspace(0, len(centers) - 1, min(most, len(centers))).astype(int))
        found = search_near(
            candidate.model,
            centers[chosen],
            radii[chosen],
            evidence.floor,
            starts=max(1, min(self.options.starts, most // len(chosen))),
            steps=steps,
            generator=context.torch_generator(),
        )
        found = _news(found, candidate, evidence)
        rate = float(found.flawed.mean())
        numbers = {
            "balls": float(len(centers)),
            "searched": float(len(chosen)),
            "searches": float(found.flawed.size),
            "queries": float(found.queries),
            "flawed": float(found.flawed.sum()),
            "rate": rate,
        }
        if rate <= self.options.max_rate:
            return Judgement(context.id, True, numbers)
        reason = (
            f"{int(found.flawed.sum())} of {found.flawed.size} searches around the corrections "
            "and closed flaws come upon a flaw"
        )
        at_fault = [names[ball] for ball in chosen[found.flawed.any(axis=1)] if names[ball]]
        return Judgement(context.id, False, numbers, reason, tuple(dict.fromkeys(at_fault)) or None)


def _news(found: Found, candidate: Candidate, evidence: Evidence) -> Found:
    """Return what was found without flaws near those that were given up, open and on record."""
    if evidence.asked is None or not len(found.states):
        return found
    is_open = candidate.model(evidence.flaws.states) > evidence.floor
    given_up = evidence.flaws.states[evidence.was_open & is_open & ~evidence.asked]
    if not len(given_up):
        return found
    apart = Support(given_up).distance(torch.tensor(found.states)).numpy()
    flawed = found.flawed.copy()
    flawed[found.flawed] = apart > region_scale(candidate.model)
    return attrs.evolve(found, flawed=flawed)


def _balls(candidate: Candidate, evidence: Evidence) -> tuple[Array, Array, list[str]]:
    """Return centres `[c, d]`, radii `[c]`, and which piece of a correction each belongs to."""
    is_open = candidate.model(evidence.flaws.states) > evidence.floor
    closed = evidence.flaws.states[~(evidence.was_open & is_open)]
    centers, names = [closed], [""] * len(closed)
    radii = [np.full(len(closed), region_scale(candidate.model))]
    for correction in candidate.corrections:
        if isinstance(correction, Kernels) and correction.space == "state":
            centers.append(correction.centers)
            # A Gaussian kernel has done its work at two standard deviations.
            reach = 1.0 if correction.profile == "wendland" else 2.0
            radii.append(reach * correction.radii)
            many = correction.count > 1
            names += [
                f"{correction.id}[{i}]" if many else correction.id for i in range(correction.count)
            ]
    return np.concatenate(centers), np.concatenate(radii), names
