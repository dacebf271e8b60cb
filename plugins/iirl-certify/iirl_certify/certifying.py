"""From a release to a certificate that its checker confirms."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from iirl_certify.boxes import Array, Region
from iirl_certify.ceiling import Ceiling
from iirl_certify.relaxation import Method
from iirl_certify.search import Judged, Search
from iirl_engine.certificate import FORMAT, Refused, Reward
from iirl_engine.errors import UsageError
from iirl_engine.formula import formula_of
from iirl_engine.layout import MANIFEST
from iirl_engine.release import load_release, read_manifest, release_folder, write_synced


@attrs.frozen(eq=False)
class Proof:
    """What was found out about the regions asked for.

    Parameters
    ----------
    regions
        As asked.
    judged
        One for each.
    counterexamples
        `[m, d]` forbidden states that the reward endorses.
    rewards
        `[m]` theirs.
    certificate
        The content of a certificate for the regions that are proved, each leaf of which the checker
        has confirmed; None when there is none.
    seconds
        CPU seconds of the prover, and of the checker.
    """

    regions: tuple[Region, ...]
    judged: tuple[Judged, ...]
    counterexamples: Array
    rewards: Array
    certificate: bytes | None
    seconds: tuple[float, float]

    @property
    def proved(self) -> bool:
        """True when every region asked for is proved."""
        return all(judged.answer == "proved" for judged in self.judged)

    @property
    def answers(self) -> dict[str, int]:
        """How many regions have which answer."""
        counted = Counter(judged.answer for judged in self.judged)
        return {answer: counted[answer] for answer in ("proved", "counterexample", "undecided")}

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl certify --json` prints."""
        return {
            "proved": self.proved,
            "regions": self.answers,
            "leaves": sum(judged.leaves for judged in self.judged),
            "boxes": sum(judged.boxes for judged in self.judged),
            "settled": float(np.mean([judged.settled for judged in self.judged])),
            "counterexamples": [
                {"state": state.tolist(), "reward": float(reward)}
                for state, reward in zip(self.counterexamples, self.rewards, strict=True)
            ],
            "prover_seconds": self.seconds[0],
            "checker_seconds": self.seconds[1],
        }

    def write(self, path: str | Path) -> Path:
        """Write the certificate, durably.

        Raises
        ------
        UsageError
            When nothing is proved.
        """
        if self.certificate is None:
            raise UsageError("there is no certificate: nothing is proved", where=path)
        write_synced(Path(path), self.certificate)
        return Path(path)


def certify(
    release: str | Path,
    regions: Sequence[Region] | None = None,
    *,
    margin: float = 0.0,
    budget: int | None = None,
    method: Method = "crown",
) -> Proof:
    """Prove that a release endorses no state that its norms forbid, or find one that it does.

    Of each region every state is proved to have R <= floor that violates a norm, where the norm
    `support` is taken to forbid what is farther than boundary + margin from every demonstration.

    Parameters
    ----------
    release
        A release directory, or a run directory for its stable release.
    regions
        What to prove of, all with the same number of axes; None for the whole domain.
    margin
        >= 0, in units of the states.
    budget
        Boxes that one region may cost; what is not decided by then stays undecided.
    method
        How the loss is bounded.

    Raises
    ------
    ArtifactError
        When the release is missing or damaged.
    UsageError
        When the formula has an operation that nothing is known of.
    """
    folder = release_folder(release)
    read_manifest(folder)  # refuses what is missing or damaged
    manifest = (folder / MANIFEST).read_bytes()
    body = json.loads(manifest)
    model = load_release(folder, manifest=hashlib.sha256(manifest).hexdigest())
    if not (np.isfinite(margin) and margin >= 0):
        raise UsageError("the margin must be a finite number, at least 0", got=margin)
    if "formula" not in body:
        raise UsageError(
            "the release states no formula: it was made before releases did",
            where=folder,
            next_step="run its chain again",
        )
    formula, floor = formula_of(model), float(body["floor"])
    asked = regions or [Region(np.array(model.domain.low), np.array(model.domain.high))]
    try:
        ceiling = Ceiling(formula, margin, method)
        checker = _Timed(formula.parts, formula.corrections, formula.tensors)
    except (Refused, ValueError) as error:
        raise UsageError("the release cannot be certified", where=folder, got=error) from error
    search = Search(
        ceiling=ceiling,
        checker=checker,
        reward=model.reward,
        violations=model.violations,
        floor=floor,
        margin=margin,
    )
    started = time.process_time()
    try:
        with torch.no_grad():
            found, judged = _drained(search, asked, model.width, budget)
    except ValueError as error:
        raise UsageError("the release cannot be certified", where=folder, got=error) from error
    seconds = time.process_time() - started - checker.seconds, checker.seconds
    certificate = None
    proved = [(r, j) for r, j in zip(asked, judged, strict=True) if j.answer == "proved"]
    if proved:
        certificate = sealed(
            {
                "format": FORMAT,
                "release": hashlib.sha256(manifest).hexdigest(),
                "margin": float(margin),
                "regions": [_entry(r, j, whole=regions is None) for r, j in proved],
            }
        )
    rewards = model(found)
    return Proof(tuple(asked), tuple(judged), found, rewards, certificate, seconds)


class _Timed(Reward):
    """The checker's bounds, and the CPU seconds that they have taken."""

    seconds = 0.0

    def holds(self, x: Any, floor: float, margin: float) -> bool:
        started = time.process_time()
        try:
            return super().holds(x, floor, margin)
        finally:
            self.seconds += time.process_time() - started


def _drained(
    search: Search, regions: Sequence[Region], width: int, budget: int | None
) -> tuple[Array, list[Judged]]:
    """Return the counterexamples of a search and its judgement."""
    found, running = [np.empty((0, width))], search.run(regions, width=width, budget=budget)
    while True:
        try:
            found.append(next(running).numpy())
        except StopIteration as end:
            return np.concatenate(found), end.value


def _entry(region: Region, judged: Judged, *, whole: bool) -> dict[str, Any]:
    """Return a region as a certificate has it; the whole domain is the domain of the release."""
    box = {} if whole else {"low": region.low.tolist(), "high": region.high.tolist()}
    if region.axes is not None and region.origin is not None:
        box |= {"origin": region.origin.tolist(), "axes": region.axes.tolist()}
    return box | {"tree": judged.tree}


def sealed(body: Mapping[str, Any]) -> bytes:
    """Return the bytes of a certificate that says this, with their SHA-256 in front."""
    rest = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()[1:] + b"\n"
    return b'{"sha256":"%s",' % hashlib.sha256(rest).hexdigest().encode() + rest
