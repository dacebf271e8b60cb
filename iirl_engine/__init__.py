"""Audit and refine learned reward models.

    import iirl_engine as iirl

    outcome = iirl.Flywheel.from_file("flywheel.toml", out="runs/x").run()
    reward = iirl.load_release("runs/x")
    r = reward(states)

Public names are imported on first use (PEP 562), so that `import iirl_engine` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iirl_engine.api import (
        Abilities,
        Auditor,
        Autoencoders,
        Code,
        Context,
        Encoder,
        Executor,
        Failure,
        Gate,
        Mapping,
        Norm,
        Refiner,
        Reporter,
        Schedule,
        Source,
        Triage,
    )
    from iirl_engine.corrections.base import Correction, View
    from iirl_engine.corrections.cut import Cut
    from iirl_engine.corrections.fade import Fade
    from iirl_engine.corrections.kernels import Kernels
    from iirl_engine.corrections.revision import Revision
    from iirl_engine.corrections.sculpt import Sculpt
    from iirl_engine.errors import (
        ArtifactError,
        ChainError,
        DataError,
        IirlError,
        KnowledgeError,
        PluginError,
        UsageError,
    )
    from iirl_engine.evidence import Candidate, Evidence, Judgement
    from iirl_engine.flywheel import Flywheel
    from iirl_engine.hookspecs import hookimpl
    from iirl_engine.offer import Offer
    from iirl_engine.options import option
    from iirl_engine.records import (
        Concern,
        Demonstrations,
        Domain,
        Flaws,
        NormSpec,
        Outcome,
        Report,
        Suspects,
    )
    from iirl_engine.release import load_release
    from iirl_engine.repair import Repair
    from iirl_engine.reward import RewardModel

__version__ = "0.1.0"

_HOME = {
    "api": (
        "Abilities Auditor Autoencoders Code Context Encoder Executor Failure Gate Mapping Norm "
        "Refiner Reporter Schedule Source Triage"
    ),
    "corrections.base": "Correction View",
    "corrections.cut": "Cut",
    "corrections.sculpt": "Sculpt",
    "corrections.fade": "Fade",
    "corrections.kernels": "Kernels",
    "corrections.revision": "Revision",
    "errors": (
        "ArtifactError ChainError DataError IirlError KnowledgeError PluginError UsageError"
    ),
    "flywheel": "Flywheel",
    "hookspecs": "hookimpl",
    "offer": "Offer",
    "options": "option",
    "repair": "Proposal Repair",
    "evidence": "Candidate Evidence Judgement",
    "records": ("Concern Demonstrations Domain Flaws NormSpec Outcome Report Suspects"),
    "release": "load_release",
    "reward": "RewardModel",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "Abilities",
    "ArtifactError",
    "Auditor",
    "Autoencoders",
    "Candidate",
    "ChainError",
    "Code",
    "Concern",
    "Context",
    "Correction",
    "Cut",
    "DataError",
    "Demonstrations",
    "Domain",
    "Encoder",
    "Evidence",
    "Executor",
    "Fade",
    "Failure",
    "Flaws",
    "Flywheel",
    "Gate",
    "IirlError",
    "Judgement",
    "Kernels",
    "KnowledgeError",
    "Mapping",
    "Norm",
    "NormSpec",
    "Offer",
    "Outcome",
    "PluginError",
    "Proposal",
    "Refiner",
    "Repair",
    "Report",
    "Reporter",
    "Revision",
    "RewardModel",
    "Schedule",
    "Sculpt",
    "Source",
    "Suspects",
    "Triage",
    "UsageError",
    "View",
    "hookimpl",
    "load_release",
    "option",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f"iirl_engine.{_MODULE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
