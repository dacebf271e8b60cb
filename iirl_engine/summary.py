"""What a run came to, in plain text that fits 80 columns; imports no array library."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import attrs

from iirl_engine.counted import count
from iirl_engine.evidence import Judgement
from iirl_engine.mended import Attempt, LeftOpen, Prediction
from iirl_engine.records import AuditSummary, Concern, Outcome, Region, Round

WIDTH = 80
# Reasons and conflicts that are told one by one.
_FEW = 5


@attrs.frozen
class Verdict:
    """What to think of a run.

    Parameters
    ----------
    level
        `failed` when a flaw is open, an audit of the last round did not run to its end or has a
        grave concern, or the last candidate was refused; `caution` when nothing of this happened
        and yet there is reason to look again, such as any concern or a round that is not
        finished; else `passed`.
    text
        One sentence.
    """

    level: Literal["passed", "caution", "failed"]
    text: str


def summarize(outcome: Outcome) -> str:
    """Return a summary of a run; no line is wider than 80 columns but one that holds a path."""
    parts = [
        [
            f"run      {plain(outcome.run)}",
            f"release  {plain(outcome.release)}",
            *(f"report   {plain(path)}" for path in outcome.reports),
        ],
        _left_out(outcome),
        rounds_table(outcome.rounds),
        list(_left_unseen(outcome)),
        list(_last_gates(outcome)),
        list(left_open_lines(outcome.left_open)),
        [line for concern in newest(outcome.concerns) for line in concern_lines(concern)],
        [line for text in alerts(outcome) for line in wrap(f"!! {text}", "   ")],
        wrap(f"{verdict(outcome).level}: {verdict(outcome).text}"),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _left_out(outcome: Outcome) -> list[str]:
    """Return what the norms left of the demonstrations, when they forbid any."""
    told = outcome.demonstrations
    if not told.get("dropped"):
        return []
    by = ", ".join(f"{plain(name)} {short(n)}" for name, n in told["dropped"].items())
    span = f"{plain(told['span']['feature'])} spans {told['span']['share']:.0%} of its range"
    return wrap(
        f"norms forbid {short(told['loaded'] - told['kept'])} of {short(told['loaded'])} expert "
        f"states: {by}. The others cover {told['covered']:.0%} of the ground; {span}.",
        "  ",
    )


def _left_unseen(outcome: Outcome) -> Iterator[str]:
    """Yield what the last round that found flaws, and the last round, say of the rest."""
    last = {turn.number for turn in outcome.rounds[-1:]}
    last |= {turn.number for turn in [t for t in outcome.rounds if t.regions][-1:]}
    for turn in (turn for turn in outcome.rounds if turn.number in last):
        for text in unseen_lines(turn):
            yield from wrap(f"round {turn.number}: {text}", "  ")


def unseen_lines(turn: Round) -> Iterator[str]:
    """Yield what a round says of the regions and of the flawed volume that it did not see."""
    left = turn.remaining
    if left is None:
        return
    if turn.regions:
        left_open = {0: "none", turn.regions: "all"}.get(
            turn.open_regions, f"{turn.open_regions:,}"
        )
        text = f"flaws in {count(turn.regions, 'region')}, {left_open} open"
        if left.high is not None:
            if left.regions < turn.regions:
                # Some were known before, and the estimate goes by this round's findings alone.
                lie = "lies" if left.findings == 1 else "lie"
                text += f"; {count(left.findings, 'finding')} {lie} in {left.regions:,} of them"
            low, middle, high = map(_about, (left.low, left.expected, left.high))
            text += f"; audits like these reach about {middle} (95 %: {low} to {high}; Chao 1)"
        yield text
    if left.volume is not None:
        seen = "no flaw" if not left.flawed else count(left.flawed, "flaw")
        yield (
            f"{seen} in {left.draws:,} uniform draws: flawed volume < {left.volume:.2g} of the "
            "domain (95 %)"
        )


def verdict(outcome: Outcome) -> Verdict:
    """Return what a reader should know first."""
    unfinished = unfinished_text(outcome)
    if not outcome.rounds:
        return Verdict("caution", f"{unfinished or 'nothing was audited: the run has no round'}.")
    last = outcome.rounds[-1]
    after = count(len(outcome.rounds), "round")
    if wrong := tuple(_failures(outcome)):
        return Verdict("failed", f"after {after}, {listed(wrong)}.")
    doubts = [unfinished] if unfinished else []
    if last.confirmed:
        doubts.append(
            f"the last round still confirmed {count(last.confirmed, 'new flaw')}, so a further "
            "round may confirm more"
        )
    open_ended = [plain(audit.auditor) for audit in last.audits if audit.status == "undecided"]
    if open_ended:
        doubts.append(f"{listed(open_ended)} came to no proof")
    doubts += hardly_looked(last)
    if last.misses:
        doubts.append(f"{count(last.misses, 'known-good state')} got too little reward")
    if last.sound and outcome.concerns:
        told = newest(outcome.concerns)
        needs = "needs" if len(told) == 1 else "need"
        doubts.append(f"{count(len(told), 'concern')} {needs} a person's judgement")
    if doubts:
        return Verdict("caution", f"after {after} no flaw is open, but {listed(doubts)}.")
    return Verdict(
        "passed",
        f"after {after} no flaw is open; the last round ran every audit to its end and "
        "confirmed no new flaw.",
    )


def hardly_looked(turn: Round) -> list[str]:
    """Return what each audit asked that found nothing because it asked next to nothing."""
    return [
        f"audit {plain(audit.auditor)} asked {audit.queries:,} of its "
        f"{count(audit.budget, 'query')} and found nothing"
        for audit in turn.audits
        if audit.hardly_looked
    ]


def unfinished_text(outcome: Outcome) -> str:
    """Return what was suspected in a round that has not come to its end; empty without one."""
    if not outcome.unfinished:
        return ""
    states = sum(outcome.unfinished.values())
    told = (
        f"with {count(states, 'suspected state')} that will be verified when the run goes on with"
        if states
        else "with no suspected state so far, and goes on with"
    )
    return f"round {len(outcome.rounds) + 1} is unfinished, {told} --resume"


def alerts(outcome: Outcome) -> tuple[str, ...]:
    """Return why audits failed, in any round, and why the last candidate was refused."""
    lines = [
        f"round {turn.number}: audit {audit.auditor} {_ending(audit)}"
        for turn in outcome.rounds
        for audit in turn.audits
        if audit.status not in ("clean", "findings")
    ]
    last = _last_candidate(outcome)
    lines += [
        f"round {turn.number}: {prediction_text(prediction)}"
        for turn in outcome.rounds
        for prediction in turn.predictions
        if prediction.wrong
    ]
    lines += [refusal(gate) for gate in outcome.gates if not gate.ok]
    lines += [f"cannot be met: {c.text}" for t in outcome.rounds[-1:] for c in t.conflicts[:_FEW]]
    lines += [f"release vetoed by {reason}" for reason in (last.vetoes if last else ())]
    return tuple(plain(line) for line in lines)


def prediction_text(told: Prediction) -> str:
    """Return what a refiner's proposal was expected to do, and what it did."""
    whose = "its own" if told.by == "refiner" else "the engine's"
    text = (
        f"{told.refiner}, by {whose} estimate, closes {told.expected_closes:,} of "
        f"{count(told.asked, 'flaw')}: it closed {told.closed:,}"
    )
    if told.withheld:
        text += f", and {told.closed_withheld:,} of {told.withheld:,} that it was not shown"
    if told.kept != told.closed:
        text += f"; the release closes {told.kept:,}"
    return (
        f"{text}; known-good states lose at most {told.worst_loss:.3g}, expected "
        f"{told.expected_worst_loss:.3g}"
    )


def attempt_text(told: Attempt) -> str:
    """Return what became of one candidate of a round."""
    text = f"{count(told.corrections, 'correction')}, {count(told.closes, 'flaw')} closed: "
    if told.ok:
        return f"{text}passed"
    return f"{text}refused by {told.refused_by}: {told.reason}"


def attempts_text(turn: Round) -> str:
    """Return how many candidates a round took, and what refused the others."""
    passed = sum(told.ok for told in turn.attempts)
    told = f"{count(len(turn.attempts), 'candidate')} judged, {passed:,} passed"
    reasons = {f"{a.refused_by}: {a.reason}": None for a in turn.attempts if not a.ok}
    return "; refused by ".join([told, *list(reasons)[:_FEW]])


def left_open_lines(left: Sequence[LeftOpen]) -> Iterator[str]:
    """Yield why flaws stay open."""
    for told in left[:_FEW]:
        is_open = "stays" if told.flaws == 1 else "stay"
        text = f"{count(told.flaws, 'flaw')} {is_open} open: {plain(told.reason)}"
        yield from wrap(f"{text} (such as {told.example[:10]})", "  ")
    if len(left) > _FEW:
        yield f"and {sum(told.flaws for told in left[_FEW:]):,} more for other reasons"


def rounds_table(rounds: Sequence[Round]) -> list[str]:
    """Return one line per round, under a heading and over the sums."""
    if not rounds:
        return []
    names = ("round", "found", "confirmed", "closed", "open", "misses", "corrections", "queries")
    rows = [
        [
            *(short(getattr(turn, name)) for name in ("number", *names[1:])),
            seconds(turn.seconds),
            "-" if turn.release is None else str(turn.release),
        ]
        for turn in rounds
    ]
    lines = table((*names, "seconds", "release"), rows, gap=" ")
    queries = sum(turn.queries for turn in rounds)
    spent = sum(turn.seconds for turn in rounds)
    total = f"in all {queries:,} reward queries, {seconds(spent)} CPU seconds after learning"
    return [*lines, total]


def newest(concerns: Sequence[Concern]) -> tuple[Concern, ...]:
    """Return of each auditor's concerns the newest of every kind, in the order they arose."""
    last = {(concern.auditor, concern.kind): concern for concern in concerns}
    return tuple(last.values())


def concern_lines(concern: Concern) -> list[str]:
    """Return what an auditor noticed that no norm can decide, and the numbers it goes by."""
    head = f"?? {'GRAVE ' if concern.grave else ''}round {concern.round}, {plain(concern.auditor)}"
    lines = wrap(f"{head}, {plain(concern.kind)}: {plain(concern.text)}", "   ")
    told = ", ".join(f"{plain(name)} {number(value)}" for name, value in concern.numbers.items())
    return [*lines, *(wrap(f"   {told}", "   ") if told else [])]


def audits_table(turn: Round) -> list[str]:
    """Return one line per audit of a round, and below them why some failed and what is sure."""
    rows = [
        (
            clipped(audit.auditor, 28),
            audit.status,
            short(audit.found),
            short(audit.confirmed),
            short(audit.queries),
            seconds(audit.seconds),
        )
        for audit in turn.audits
    ]
    heads = ("audit", "status", "found", "confirmed", "queries", "seconds")
    lines = table(heads, rows, left=2)
    for audit in turn.audits:
        if audit.reason:
            lines += wrap(f"  {plain(audit.auditor)}: {plain(audit.reason)}", "    ")
        if audit.evidence:
            lines += wrap(
                f"  {plain(audit.auditor)}: unlike the demonstrations, {plain(audit.evidence)}",
                "    ",
            )
    return lines


def regions_table(regions: Sequence[Region]) -> list[str]:
    """Return one line per region: where it is worst, how far it reaches, what is open."""
    rows = [
        (
            region.id[:10],
            clipped(", ".join(region.auditors), 24),
            short(len(region.flaws)),
            short(region.open),
            f"{region.severity:.3g}",
            f"{region.radius:.3g}",
            f"{region.distance:.3g}",
        )
        for region in regions
    ]
    heads = ("region", "found by", "flaws", "open", "severity", "radius", "distance")
    return table(heads, rows, left=2)


def gate_lines(gate: Judgement) -> list[str]:
    """Return what a gate said, its numbers, and the reason of a refusal."""
    head = f"  {'ok' if gate.ok else 'REFUSED':<8} {plain(gate.gate)}"
    told = ", ".join(f"{plain(name)} {number(value)}" for name, value in gate.numbers.items())
    lines = wrap(f"{head}: {told}" if told else head, " " * 11)
    return lines + ([] if gate.ok else wrap(" " * 11 + plain(gate.reason), " " * 11))


def refusal(gate: Judgement) -> str:
    """Return one line that says which gate refused, and why."""
    return f"gate {gate.gate} refused the last candidate" + (
        f": {gate.reason}" if gate.reason else ""
    )


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, gap: str = "  ", left: int = 0
) -> list[str]:
    """Return aligned lines; the first `left` columns are flush left, the others flush right."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return [
        gap.join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def wrap(text: str, indent: str = "") -> list[str]:
    """Return `text` as lines of at most 80 columns; those after the first are indented."""
    lead = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(text.lstrip(), WIDTH, initial_indent=lead, subsequent_indent=indent) or [
        lead.rstrip()
    ]


def plain(text: object) -> str:
    """Return text on one line and without control characters, safe to print on a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def clipped(text: str, most: int) -> str:
    """Return plain text of at most `most` characters."""
    text = plain(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def number(value: float) -> str:
    """Return a number as one reads it: counts in full, measures with four digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def short(value: int) -> str:
    """Return a count in at most six characters, in full below a million."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.4g}{letter}"
    return str(value)


def seconds(value: float) -> str:
    """Return CPU seconds, to a tenth while that matters."""
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _about(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}".removesuffix(".0")


def _last_gates(outcome: Outcome) -> Iterator[str]:
    last = _last_candidate(outcome)
    if last is None or not last.gates:
        return
    yield f"gates of round {last.number}"
    for gate in last.gates:
        yield from gate_lines(gate)


def _last_candidate(outcome: Outcome) -> Round | None:
    return next((turn for turn in reversed(outcome.rounds) if turn.gates or turn.vetoes), None)


def _failures(outcome: Outcome) -> Iterator[str]:
    if outcome.open_flaws:
        is_open = "is open" if outcome.open_flaws == 1 else "are open"
        yield f"{count(outcome.open_flaws, 'confirmed flaw')} {is_open}"
    for audit in outcome.rounds[-1].audits:
        if audit.status in _STATUS:
            yield f"audit {plain(audit.auditor)} " + _STATUS[audit.status]
        if audit.grave:
            yield f"audit {plain(audit.auditor)} has a grave concern"
    for gate in outcome.gates:
        if not gate.ok:
            yield f"gate {plain(gate.gate)} refused the last candidate"
    if contested := len(outcome.rounds[-1].conflicts):
        yield f"{count(contested, 'demand')} cannot be met"
    last = _last_candidate(outcome)
    if last is not None and last.vetoes:
        yield "the last candidate was vetoed"


_STATUS = {"crashed": "crashed", "over-budget": "ran over its budget"}


def _ending(audit: AuditSummary) -> str:
    return _STATUS.get(audit.status, audit.status) + (f": {audit.reason}" if audit.reason else "")


def listed(parts: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
