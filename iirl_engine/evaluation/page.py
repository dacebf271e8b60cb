"""An evaluation as evaluation.html, one offline page that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from iirl_engine.evaluation import pictures, text
from iirl_engine.evaluation.policies import Policy
from iirl_engine.evaluation.result import Evaluation
from iirl_engine.page import environment
from iirl_engine.reward import RewardModel
from iirl_engine.summary import plain

FILE = "evaluation.html"
_TEMPLATE = "evaluation.html.jinja"


def render(
    evaluation: Evaluation, model: RewardModel, policies: Sequence[Policy], name: str
) -> str:
    """Return the page.

    Parameters
    ----------
    evaluation
        What `evaluate` said of `model` and `policies`.
    model, policies
        To draw rewards over time.
    name
        Of the release, for the heading.
    """
    level = {True: "passed", False: "failed", None: "caution"}
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            name=plain(name),
            evaluation=evaluation,
            level=level[evaluation.trivial.below_competent],
            text=text,
            ordering=pictures.ordering(evaluation),
            trajectories=pictures.trajectories(evaluation, model, policies),
        )
    )


def _environment() -> jinja2.Environment:
    made = environment("iirl_engine.evaluation")
    made.filters["plain"] = plain
    return made
