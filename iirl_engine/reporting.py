"""What the reports of a run tell: written at its end, and again as long as its files are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from iirl_engine.blame import blame
from iirl_engine.chain import Reporting, Step, read_reporting
from iirl_engine.errors import KnowledgeError
from iirl_engine.knowledge import Knowledge
from iirl_engine.layout import CHAIN, RELEASES
from iirl_engine.records import Outcome, Report
from iirl_engine.release import load_release, read_manifest

Reporters = Sequence[tuple[Step, Any]]


def write_reports(
    out: Path, knowledge: Knowledge, chain: Reporting, reporters: Reporters
) -> Outcome:
    """Write every report from what the knowledge base and the releases of a run hold.

    Parameters
    ----------
    out
        The run directory.
    reporters
        Those of the chain, built.

    Raises
    ------
    KnowledgeError
        When the run has made no release.
    """
    releases = knowledge.releases()
    if not releases:
        raise KnowledgeError("the run has made no release yet", where=out)
    before, after = (
        load_release(
            out / RELEASES / f"{number:04d}", plugins=chain.hooks, manifest=releases[number]
        )
        for number in (0, max(releases))
    )
    flaws = knowledge.flaws(after.width)
    still_open = np.zeros(len(flaws), dtype=np.bool_)
    if len(flaws):
        still_open = np.asarray(after(flaws.states) > chain.floor)
    rounds = knowledge.rounds()
    outcome = Outcome(
        run=out,
        release=out / RELEASES / f"{max(releases):04d}",
        rounds=rounds,
        open_flaws=int(still_open.sum()),
        plugins=chain.plugins,
        demonstrations=read_manifest(out / RELEASES / "0000")["screening"],
        concerns=knowledge.concerns(),
        regions=knowledge.regions(),
        left_open=knowledge.left_open(),
        missing=chain.missing,
        unfinished=knowledge.audits_ended(len(rounds) + 1),
    )
    report = Report(outcome, before, after, flaws, still_open, chain.floor, chain.text)
    files: list[Path] = []
    for step, reporter in reporters:
        with blame(step, "write its report"):
            files.extend(reporter.write(report, out))
    return attrs.evolve(outcome, reports=tuple(files))


def report_again(out: Path) -> Outcome:
    """Write the reports of a finished run once more.

    Of the chain's plugins only those are needed that the reward is made of, and a reporter; what
    has become of the others is said in the reports.

    Raises
    ------
    ChainError
        When no reporter of the chain is available.
    PluginError
        When a plugin that the reward is made of is not.
    """
    chain = read_reporting(out / CHAIN)
    reporters = [(step, step.build()) for step in chain.reports]
    knowledge = Knowledge(out)
    try:
        return write_reports(out, knowledge, chain, reporters)
    finally:
        knowledge.close()
