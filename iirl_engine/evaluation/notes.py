"""Why a measure could not be told, one sentence for each reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from iirl_engine.evaluation.policies import Policy
from iirl_engine.evaluation.result import Distance, Ordering, PolicyRow, Reference, Trivial

# Ingredient, where a policy keeps it, and what is unknown without it.
_INGREDIENTS: tuple[tuple[str, Callable[[Policy], Any], str], ...] = (
    ("true returns", lambda policy: policy.returns, "ordering and competence"),
    ("true rewards", lambda policy: policy.reward, "the EPIC distance"),
    ("episodes", lambda policy: policy.episode, "the learned return"),
    ("labels", lambda policy: policy.label, "their AUROC"),
    ("exact values", lambda policy: policy.value, "their rank correlation"),
)


def missing(policies: Sequence[Policy]) -> Iterator[str]:
    """Yield which ingredients policies lack, and for what."""
    for what, part, measure in _INGREDIENTS:
        without = [policy.name for policy in policies if part(policy) is None]
        if len(without) == len(policies):
            yield f"no policy has {what}: {measure} cannot be told"
        elif without:
            yield f"{measure} leaves out policies without {what}: {_some(without)}"


def unsure_reference(reference: Reference) -> Iterator[str]:
    """Yield what it means that no demonstrations are held out."""
    if not reference.held_out:
        yield (
            "no demonstrations are held out: those that the reward was learned from stand in for "
            "them, and how many fresh ones are rejected cannot be told"
        )


def undefined(
    policies: Sequence[Policy], rows: Sequence[PolicyRow], ordering: Ordering, epic: Distance
) -> Iterator[str]:
    """Yield why measures are undefined whose ingredients are there."""
    if ordering.policies and ordering.by_mean_reward is None:
        yield "the ordering needs two policies that differ in true return and in mean reward"
    if ordering.by_mean_reward is not None and ordering.by_return is None:
        yield "the ordering by return needs two policies that differ in learned return"
    if epic.states and epic.pooled is None:
        yield "the EPIC distance needs a learned and a true reward that differ between states"
    found = {row.name: row for row in rows}
    if one_label := [
        p.name for p in policies if p.label is not None and found[p.name].label_auroc is None
    ]:
        yield f"all states have the same label: {_some(one_label)}"
    if flat := [
        p.name for p in policies if p.value is not None and found[p.name].value_spearman is None
    ]:
        yield f"the exact value or the learned reward is the same in all states: {_some(flat)}"


def climbing(starts: int, share: float | None) -> Iterator[str]:
    """Yield why the saturation cannot be told."""
    if not starts:
        yield "it is not known where episodes start: saturation and frozen start cannot be told"
    elif share is None:
        yield "the encoder has no gradient: saturation cannot be told"


def comparison(rows: Sequence[PolicyRow], trivial: Trivial) -> Iterator[str]:
    """Yield what limits the comparison of trivial with competent policies."""
    if able := [row.name for row in rows if row.trivial and row.competent]:
        yield f"competent by true return, so not counted as trivial: {_some(able)}"
    if any(row.relative is None for row in trivial.policies):
        yield "the demonstrations earn nothing: no share of it can be told"
    if trivial.below_competent is None:
        yield "competence needs two policies that differ in true return"


def _some(names: Iterable[str]) -> str:
    return ", ".join(names)
