"""`iirl certify`: a proof that a release endorses nothing its norms forbid, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from iirl_certify.boxes import Region
    from iirl_engine import RewardModel


@click.command()
@click.argument("release", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the certificate here, in a folder that is made.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="How far beyond its boundary the norm support is taken to forbid.",
)
@click.option(
    "--around-demonstrations",
    "around",
    type=click.IntRange(min=1),
    metavar="N",
    help="Certify boxes around N demonstrations instead of the domain.",
)
@click.option(
    "--radius",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Half the width of those boxes and slices, in units of the features.",
)
@click.option(
    "--slice",
    "features",
    metavar="F,G[,H]",
    help="Of those boxes only the slice along these features.",
)
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    help="Boxes that one region may cost; then it stays undecided.",
)
@click.option(
    "--method",
    type=click.Choice(["interval", "crown-ibp", "crown"]),
    default="crown",
    show_default=True,
    help="How the encoder's loss is bounded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def certify(
    release: Path,
    out: Path | None,
    margin: float,
    around: int | None,
    radius: float | None,
    features: str | None,
    budget: int,
    method: str,
    as_json: bool,
) -> None:
    """Prove that RELEASE, a release or run directory, endorses no state that a norm forbids.

    Exits with 1 when a counterexample was found, or something stays undecided; what is proved is
    written all the same. `iirl verify` re-checks the file without this plugin.
    """
    from iirl_certify.certifying import certify as proving
    from iirl_engine.errors import UsageError
    from iirl_engine.release import load_release, make_room, read_manifest, release_folder

    read_manifest(release_folder(release))  # a release that is none leaves no folder behind
    if out is not None:
        make_room(out)
    regions = None
    if around is not None or features is not None:
        if radius is None:
            raise UsageError(
                "boxes and slices need a radius", next_step="add --radius, in units of the features"
            )
        regions = _regions(load_release(release), around or 1, radius, features)
    elif radius is not None:
        raise UsageError(
            "a radius without boxes means nothing", next_step="add --around-demonstrations"
        )
    proof = proving(release, regions, margin=margin, budget=budget, method=method)  # type: ignore[arg-type]
    written = None
    if out is not None and proof.certificate is not None:
        written = proof.write(out)
    if as_json:
        body = proof.to_json() | {"certificate": None if written is None else str(written)}
        click.echo(json.dumps(body, indent=1))
    else:
        for answer, count in proof.answers.items():
            click.echo(f"{answer + ':':16}{count:,} of {len(proof.judged):,} regions")
        told = proof.to_json()
        click.echo(f"leaves:         {told['leaves']:,}, of {told['boxes']:,} boxes bounded")
        click.echo(f"volume proved:  {100 * told['settled']:.4g} %")
        click.echo(f"CPU seconds:    prover {proof.seconds[0]:.2f}, checker {proof.seconds[1]:.2f}")
        pairs = zip(proof.counterexamples[:5], proof.rewards[:5], strict=True)
        for state, reward in pairs:
            text = ", ".join(f"{value:.6g}" for value in state)
            click.echo(f"flaw:           reward {reward:.4g} at [{text}]")
        if written is not None:
            click.echo(f"certificate:    {written}")
        elif out is not None:
            click.echo(f"certificate:    none, as no region is proved; {out} was not written")
    if not proof.proved:
        raise click.exceptions.Exit(1)


def _regions(model: RewardModel, count: int, radius: float, features: str | None) -> list[Region]:
    """Return the boxes or slices that the options ask for."""
    import numpy as np

    from iirl_certify.regions import around_demonstrations, slices
    from iirl_engine.errors import UsageError

    if features is None:
        return around_demonstrations(model, count, radius)
    names = model.demonstrations.feature_names
    asked = features.split(",")
    if (unknown := [name for name in asked if name not in names]) or len(set(asked)) < len(asked):
        raise UsageError("a slice is along features, each once", got=unknown or asked, known=names)
    axes = np.eye(len(names))[[names.index(name) for name in asked]]
    return slices(model, count, radius, axes)
