"""The hooks: when each is called, with what, what it returns, and an example.

A plugin is a distribution with an entry point in the group `iirl_engine` that names a module,
its hook module. The module says `IIRL_API = 1` and marks functions with `hookimpl`:

    from iirl_engine import Offer, hookimpl

    IIRL_API = 1

    @hookimpl
    def iirl_auditors():
        yield Offer(
            "spiral",
            "acme_audit.spiral:Spiral",
            "acme_audit.options:SpiralOptions",
            "walks a spiral",
        )

Hook modules import nothing heavy: strategies and their options are named, and imported when a
chain uses them.

Provider hooks take no argument, return an iterable of `Offer` and are called once. Lifecycle
hooks get one frozen event. Implementations are called one by one, so that a failure in one
hides no other's answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from iirl_engine.evidence import Candidate, Evidence
    from iirl_engine.offer import Offer
    from iirl_engine.records import FlawsFound, ReleaseMade, RoundFinished, RunStarted

PROJECT = "iirl_engine"
API = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# Kind of strategy -> provider hook and base class. Everything that lists kinds reads this.
KINDS = {
    "source": ("iirl_sources", "iirl_engine.api:Source"),
    "encoder": ("iirl_encoders", "iirl_engine.api:Encoder"),
    "mapping": ("iirl_mappings", "iirl_engine.api:Mapping"),
    "schedule": ("iirl_schedules", "iirl_engine.api:Schedule"),
    "norm": ("iirl_norms", "iirl_engine.api:Norm"),
    "auditor": ("iirl_auditors", "iirl_engine.api:Auditor"),
    "triage": ("iirl_triages", "iirl_engine.api:Triage"),
    "refiner": ("iirl_refiners", "iirl_engine.api:Refiner"),
    "gate": ("iirl_gates", "iirl_engine.api:Gate"),
    "executor": ("iirl_executors", "iirl_engine.api:Executor"),
    "reporter": ("iirl_reporters", "iirl_engine.api:Reporter"),
    "command": ("iirl_commands", "click:Command"),
}
LIFECYCLE = (
    "iirl_run_started",
    "iirl_flaws_found",
    "iirl_round_finished",
    "iirl_release_made",
    "iirl_veto",
)


@hookspec
def iirl_sources() -> Iterable[Offer]:
    """Offer sources: where demonstrations come from.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Source`.

        @hookimpl
        def iirl_sources():
            yield Offer(
                "ros-bag",
                "acme_ros.bag:RosBag",
                "acme_ros.options:RosBagOptions",
                "states of a ROS bag",
            )
    """
    return ()


@hookspec
def iirl_encoders() -> Iterable[Offer]:
    """Offer encoders: how unlike the expert a state is.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Encoder`.

        @hookimpl
        def iirl_encoders():
            yield Offer(
                "vae",
                "acme_vae.model:Vae",
                "acme_vae.options:VaeOptions",
                "variational autoencoder",
            )
    """
    return ()


@hookspec
def iirl_mappings() -> Iterable[Offer]:
    """Offer mappings: from expertness loss to reward.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Mapping`.

        @hookimpl
        def iirl_mappings():
            yield Offer(
                "step",
                "acme_maps.step:Step",
                "acme_maps.options:StepOptions",
                "1 below a loss, else 0",
            )
    """
    return ()


@hookspec
def iirl_schedules() -> Iterable[Offer]:
    """Offer schedules: how strongly the reward is applied, by state and time.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Schedule`.

        @hookimpl
        def iirl_schedules():
            yield Offer(
                "cosine",
                "acme_beta.cosine:Cosine",
                "acme_beta.options:CosineOptions",
                "cosine decay",
            )
    """
    return ()


@hookspec
def iirl_norms() -> Iterable[Offer]:
    """Offer norms: formal constraints on states.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Norm`.

        @hookimpl
        def iirl_norms():
            yield Offer(
                "torque",
                "acme_robot.norms:Torque",
                "acme_robot.options:TorqueOptions",
                "joint torque limit",
            )
    """
    return ()


@hookspec
def iirl_auditors() -> Iterable[Offer]:
    """Offer auditors: who looks for flaws.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Auditor`.

        @hookimpl
        def iirl_auditors():
            yield Offer(
            "spiral",
            "acme_audit.spiral:Spiral",
            "acme_audit.options:SpiralOptions",
            "walks a spiral",
        )
    """
    return ()


@hookspec
def iirl_triages() -> Iterable[Offer]:
    """Offer triages: in which order flaws deserve attention.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Triage`.

        @hookimpl
        def iirl_triages():
            yield Offer("newest", "acme_triage.newest:Newest", summary="newest flaw first")
    """
    return ()


@hookspec
def iirl_refiners() -> Iterable[Offer]:
    """Offer refiners: who proposes corrections.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Refiner`.

        @hookimpl
        def iirl_refiners():
            yield Offer(
                "ball",
                "acme_fix.ball:Ball",
                "acme_fix.options:BallOptions",
                "one kernel per flaw",
            )
    """
    return ()


@hookspec
def iirl_gates() -> Iterable[Offer]:
    """Offer gates: who judges candidates.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Gate`.

        @hookimpl
        def iirl_gates():
            yield Offer(
                "latency",
                "acme_gates.latency:Latency",
                "acme_gates.options:LatencyOptions",
                "time per state",
            )
    """
    return ()


@hookspec
def iirl_executors() -> Iterable[Offer]:
    """Offer executors: where independent jobs run.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Executor`.

        @hookimpl
        def iirl_executors():
            yield Offer(
                "slurm",
                "acme_slurm.pool:Slurm",
                "acme_slurm.options:SlurmOptions",
                "jobs on a cluster",
            )
    """
    return ()


@hookspec
def iirl_reporters() -> Iterable[Offer]:
    """Offer reporters: who writes reports.

    Called once, when plugins are loaded. Targets are subclasses of `iirl_engine.api.Reporter`.

        @hookimpl
        def iirl_reporters():
            yield Offer(
                "pdf",
                "acme_pdf.report:Pdf",
                "acme_pdf.options:PdfOptions",
                "the report as a PDF",
            )
    """
    return ()


@hookspec
def iirl_commands() -> Iterable[Offer]:
    """Offer commands of the `iirl` command line.

    Called once, when plugins are loaded. Targets are `click.Command` objects; they take no
    options from chain files. A built-in command keeps its name.

        @hookimpl
        def iirl_commands():
            yield Offer("lab", "acme_lab.cli:lab", summary="open the lab notebook")
    """
    return ()


@hookspec
def iirl_run_started(event: RunStarted) -> None:
    """Observe that a run begins, after the chain was built and before anything is learned.

    An exception is logged and the run goes on.

        @hookimpl
        def iirl_run_started(event):
            print("auditing", event.run)
    """


@hookspec
def iirl_flaws_found(event: FlawsFound) -> None:
    """Observe the new confirmed flaws of a round, after verification and triage.

    Called once per round that confirms a flaw. An exception is logged and the run goes on.

        @hookimpl
        def iirl_flaws_found(event):
            print(len(event.flaws), "new flaws in round", event.round)
    """


@hookspec
def iirl_round_finished(event: RoundFinished) -> None:
    """Observe the end of a round, after its release, if any, was written.

    An exception is logged and the run goes on.

        @hookimpl
        def iirl_round_finished(event):
            print("open flaws:", event.round.open)
    """


@hookspec
def iirl_release_made(event: ReleaseMade) -> None:
    """Observe a new release, after it is durable on disk and named in the knowledge base.

    Called for release 0 too. An exception is logged and the run goes on.

        @hookimpl
        def iirl_release_made(event):
            print("released", event.release)
    """


@hookspec
def iirl_veto(candidate: Candidate, evidence: Evidence) -> str | None:
    """Veto a candidate that passed its gates, by returning the reason; None lets it pass.

    Called for a round's candidate before it is written, and for release 0 before a clean audit
    makes it the stable release (`candidate.round` is 0 then). Every implementation is asked. An
    exception counts as a veto, and so does an answer that is neither text nor None.

        @hookimpl
        def iirl_veto(candidate, evidence):
            if evidence.data not in APPROVED:
                return f"trained on unapproved data {evidence.data[:12]}"
    """
    return None
