"""An evaluation in plain text that fits 80 columns."""

from __future__ import annotations

from iirl_engine.evaluation.result import Evaluation
from iirl_engine.summary import plain, short, table, wrap

HEADS = (
    "policy",
    "states",
    "eps",
    "true return",
    "true reward",
    "return",
    "reward",
    "AUROC",
    "rejected",
)
INDEPENDENT = ("policy", "label AUROC", "value Spearman")
_NAME = 14


def render(evaluation: Evaluation) -> str:
    """Return the evaluation as tables, its verdict and its notes."""
    own = independent(evaluation)
    parts = [
        table(HEADS, policies(evaluation), gap=" ", left=1),
        table(INDEPENDENT, own, left=1) if own else [],
        table(("measure", "value", "beside"), measures(evaluation), left=1),
        table(("trivial policy", "reward", "of demonstrations"), trivial(evaluation), left=1),
        wrap(verdict(evaluation)),
        [line for note in evaluation.notes for line in wrap(f"note: {plain(note)}", "      ")],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def policies(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return what a table says of each policy, under `HEADS`; * marks a competent one."""
    return [
        (
            _clipped(row.name) + ("*" if row.competent else ""),
            short(row.states),
            "-" if row.episodes is None else short(row.episodes),
            figure(row.true_return),
            figure(row.true_reward),
            figure(row.learned_return),
            unit(row.learned_reward),
            unit(row.auroc),
            share(row.rejected),
        )
        for row in evaluation.policies
    ]


def independent(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the policies with labels or values, and how far the reward agrees with them."""
    return [
        (_clipped(row.name), unit(row.label_auroc), unit(row.value_spearman))
        for row in evaluation.policies
        if row.label_auroc is not None or row.value_spearman is not None
    ]


def measures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return each measure of the reward as a whole, its value, and what it stands beside."""
    ordering, epic, pooled = evaluation.ordering, evaluation.epic, evaluation.pooled
    rows = [
        ("ordering of policies by return, Spearman", unit(ordering.by_return), "true return"),
        (
            "ordering of policies by mean reward, Spearman",
            unit(ordering.by_mean_reward),
            "true return",
        ),
        ("EPIC distance, every state alike", unit(epic.pooled), "true reward"),
        ("EPIC distance, every policy alike", unit(epic.balanced), "true reward"),
        ("labels of all policies, AUROC", unit(pooled.label_auroc), "label"),
        ("values of all policies, Spearman", unit(pooled.value_spearman), "exact value"),
        ("flat on the way to the expert", share(evaluation.saturation), ""),
        ("held-out demonstrations rejected", share(evaluation.rejected.held_out), ""),
        ("states of a competent policy rejected", share(evaluation.rejected.competent), ""),
    ]
    return [row for row in rows if row[1] != "-"]


def trivial(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return each trivial policy, its mean reward, and that as a share of the demonstrations'."""
    return [
        (plain(row.name), unit(row.reward), share(row.relative))
        for row in evaluation.trivial.policies
    ]


def verdict(evaluation: Evaluation) -> str:
    """Return whether trivial policies stay below competent ones, in one sentence."""
    found = evaluation.trivial
    if found.below_competent is None or found.margin is None:
        return "Whether trivial policies earn less than competent ones cannot be told."
    if found.below_competent:
        return (
            "Every trivial policy earns less per state than every competent one (*), by at least "
            f"{unit(found.margin)}."
        )
    best = max(found.policies, key=lambda row: row.reward)
    return (
        f"Hackable: {plain(best.name)} earns {unit(best.reward)} per state, "
        f"{unit(-found.margin)} more than the least rewarded competent policy (*)."
    )


def figure(value: float | None) -> str:
    """Return a number of any size in four digits or so."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def unit(value: float | None) -> str:
    """Return a number of size up to 1 to a thousandth."""
    return "-" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _clipped(name: str) -> str:
    name = plain(name)
    return name if len(name) < _NAME else name[: _NAME - 4] + "..."
