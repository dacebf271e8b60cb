"""Whether the reward under audit is what its run has on record: weights, norms and corrections."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from iirl_auditors.adversarial.options import TamperOptions
from iirl_engine import Auditor, Concern, Context
from iirl_engine.records import Family, Released

if TYPE_CHECKING:
    from iirl_engine.corrections.base import Correction
    from iirl_engine.target import Target

_CORRECTION = "correction."


class Tamper(Auditor[TamperOptions]):
    """Compares each part of the reward with the fingerprint that the knowledge base has of it.

    A part that no release explains is a grave concern: encoder, mapping, norms, domain or
    demonstrations that are not those of the newest release, a correction that was released by
    nobody, changed since, or lost, and a history in which releases do more than add corrections
    or leave some away. Corrections that were left away, because others stand in for them or
    somebody removed them, are a concern that is not grave.
    One query makes sure that the reward can be evaluated at all. Whoever can rewrite the
    knowledge base, too, goes unseen.
    """

    family: Family = "adversarial"
    exhaustive = True
    blind_to = dict.fromkeys(
        ("Cliff", "Flat", "Spike", "Noisy"), "it compares records and looks at no state"
    )

    def audit(self, target: Target, context: Context) -> Iterator[Concern]:
        target.reward(torch.tensor(target.demonstrations.states[:1]))
        if not target.history:
            yield Concern(
                "no-record",
                "There is no record of the reward's releases: whether somebody changed it cannot "
                "be told.",
            )
            return
        found = target.formula().fingerprints()
        for kind, what in itertools.chain(
            unexplained(found, target.history[-1].fingerprints),
            rewritten(target.history),
            backdated(target.corrections, target.history),
        ):
            last = target.history[-1].number
            text = f"{what} (record: release {last:04d})"
            yield Concern(kind, text, {"releases": len(target.history)}, grave=True)
        if gone := left_away(target.history):
            yield Concern(
                "removed-correction",
                f"Released once, and no longer part of the newest release: {', '.join(gone)}.",
                {"corrections": len(gone)},
            )


def unexplained(found: Mapping[str, str], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) of what a reward's parts are not what is on record of them.

    Parameters
    ----------
    found, known
        Part -> SHA-256, of the reward and on record.
    """
    weights = [n for n in _all(found, known) if not n.startswith(_CORRECTION)]
    corrections = [n for n in _all(found, known) if n.startswith(_CORRECTION)]
    if other := [name for name in weights if found.get(name) != known.get(name)]:
        yield "changed-weights", f"Not what was released: {', '.join(other)}."
    if unknown := [name for name in corrections if name not in known]:
        yield "unreleased-correction", f"Released by nobody: {', '.join(unknown)}."
    if lost := [name for name in corrections if name not in found]:
        yield "lost-correction", f"Released, and gone: {', '.join(lost)}."
    both = (name for name in corrections if name in found and name in known)
    if changed := [name for name in both if found[name] != known[name]]:
        yield "changed-correction", f"Changed after the release: {', '.join(changed)}."


def rewritten(history: Sequence[Released]) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) where a release changes what the one before it holds.

    It may add corrections, and leave some away; all else it has to keep.
    """
    pairs = itertools.pairwise(history)
    if broken := [
        f"{later.number:04d}"
        for earlier, later in pairs
        if any(
            later.fingerprints.get(part, told if part.startswith(_CORRECTION) else None) != told
            for part, told in earlier.fingerprints.items()
        )
    ]:
        yield (
            "rewritten-history",
            f"A release keeps what the one before it holds; not so {', '.join(broken)}.",
        )


def left_away(history: Sequence[Released]) -> list[str]:
    """Return the ids of corrections that some release holds and the newest does not."""
    newest = history[-1].fingerprints
    parts = dict.fromkeys(part for released in history for part in released.fingerprints)
    return [
        part.removeprefix(_CORRECTION)
        for part in parts
        if part.startswith(_CORRECTION) and part not in newest
    ]


def backdated(
    corrections: Sequence[Correction], history: Sequence[Released]
) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) of corrections that claim another round than their release's."""
    first = {
        part: released.round
        for released in reversed(history)
        for part in released.fingerprints
        if part.startswith(_CORRECTION)
    }
    if wrong := [
        f"{correction.id} (says {correction.round})"
        for correction in corrections
        if first.get(_CORRECTION + correction.id, correction.round) != correction.round
    ]:
        yield "backdated-correction", f"Added in another round than it says: {', '.join(wrong)}."


def _all(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys([*known, *found]))
