"""`iirl audit`: look for flaws in a finished release, or turn the known ones into tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iirl_engine.cli.progress import shown
from iirl_engine.errors import UsageError

if TYPE_CHECKING:
    from iirl_engine.chain import Chain
    from iirl_engine.release_audit import Findings, Subject

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=_folder)
@click.option("--chain", "chain_file", type=_file, help="Chain file [default: that of the run].")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override an option, such as audit.pgd.budget=50000; may be repeated.",
)
@click.option("--disable", multiple=True, metavar="PLUGIN", help="Do not import this plugin.")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    help="Seed of the auditors [default: the chain's plus 1, so that they draw afresh].",
)
@click.option("--out", type=_folder, help="Audit directory [default: RUN/audits/0001, 0002, ...].")
@click.option("--resume", is_flag=True, help="Go on with the newest audit, or that in --out.")
@click.option(
    "--as-tests",
    "tests",
    type=_file,
    metavar="FILE.py",
    help="Audit nothing; write the known flaws as a pytest file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(folder: Path, tests: Path | None, as_json: bool, **asked: Any) -> None:
    """Audit the release in DIR with a chain's auditors; nothing is refined.

    DIR is a release, or a run, for its stable release or else the newest. Findings are kept in
    a directory of their own and printed as regions. Exits with 1 when the release has a flaw,
    with 5 when an auditor failed.
    """
    from iirl_engine.release_audit import find_subject

    subject = find_subject(folder)
    if tests is not None:
        _write_tests(subject, tests, as_json)
        return
    sys.exit(_audit(subject, as_json=as_json, **asked))


def _audit(
    subject: Subject,
    *,
    chain_file: Path | None,
    overrides: tuple[str, ...],
    disable: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    chain = _chain(subject, chain_file, overrides, disable)
    from iirl_engine.release_audit import audit_release, audits_of, free_audit

    if out is None and resume:
        parent, there = audits_of(subject)
        if not there:
            raise UsageError("there is no audit to go on with", where=parent)
        out = there[-1]
    out = out or free_audit(subject)
    seed = chain.settings.seed + 1 if seed is None else seed
    with shown() as show:
        try:
            found = audit_release(chain, subject, out, seed, resume=resume, progress=show)
        except KeyboardInterrupt:
            show(f"interrupted; what was found is kept, --out {out} --resume goes on")
            raise
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(_told(found)))
    if any(audit.grave for audit in found.turn.audits):
        return 3
    if not found.turn.sound:
        return 5
    return 0 if found.ok else 1


def _chain(
    subject: Subject, file: Path | None, overrides: tuple[str, ...], disable: tuple[str, ...]
) -> Chain:
    from iirl_engine.chain import read_chain
    from iirl_engine.layout import CHAIN

    if file is None and subject.run is None:
        raise UsageError(
            "the release lies in no run, so nothing says how to audit it",
            where=subject.release,
            next_step="name a chain file with --chain",
        )
    if file is None and subject.run is not None:
        file = subject.run / CHAIN
    assert file is not None
    return read_chain(file, overrides=overrides, disable=disable)


def _told(found: Findings) -> list[str]:
    """Return the findings as lines of at most 80 columns but for paths."""
    from iirl_engine.counted import count
    from iirl_engine.summary import (
        audits_table,
        concern_lines,
        hardly_looked,
        listed,
        regions_table,
        unseen_lines,
        wrap,
    )

    turn = found.turn
    lines = [f"release  {found.release}", f"audit    {found.audit}", "", *audits_table(turn)]
    for concern in found.concerns:
        lines += concern_lines(concern)
    if found.regions:
        lines += ["", *regions_table(found.regions)]
    lines += ["", *(line for text in unseen_lines(turn) for line in wrap(text, "  "))]
    failed = [a.auditor for a in turn.audits if a.status not in ("clean", "findings")]
    doubts = hardly_looked(turn)
    if found.concerns:
        needs = "needs" if len(found.concerns) == 1 else "need"
        told = count(len(found.concerns), "concern")
        doubts.append(f"{told} {needs} a person's judgement")
    if turn.open:
        known = f", {found.known_open:,} of them known before" if found.known_open else ""
        said = f"failed: {count(turn.open, 'flaw')} in {count(turn.regions, 'region')}{known}."
    elif failed:
        said = f"failed: no flaw was found, but {', '.join(failed)} did not run to the end."
    elif not turn.sound:
        said = "failed: no flaw was found, but a concern is grave."
    elif doubts:
        said = f"caution: no flaw was found, but {listed(doubts)}."
    else:
        said = "passed: every audit ran to its end and found no flaw."
    return [*lines, "", *wrap(said)]


def _write_tests(subject: Subject, file: Path, as_json: bool) -> None:
    from iirl_engine.as_tests import write_tests
    from iirl_engine.release import read_manifest
    from iirl_engine.release_audit import known_regions

    regions = known_regions(subject)
    floor = float(read_manifest(subject.release)["floor"])
    files = write_tests(file, regions, floor, subject.run or subject.release)
    flaws = sum(len(states) for states in regions.values())
    if as_json:
        body = {"files": [str(f) for f in files], "regions": len(regions), "flaws": flaws}
        click.echo(json.dumps(body, indent=1))
        return
    for written in files:
        click.echo(written)
