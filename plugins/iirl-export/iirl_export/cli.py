"""`iirl export`: a release as one file."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("release", type=click.Path(file_okay=False, path_type=Path))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    help="An ONNX model, or a torch.export archive (.pt2).",
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="What states and rewards are; it computes in float64 either way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(release: Path, file: Path, format: str, dtype: str, as_json: bool) -> None:
    """Write RELEASE, a release or run directory, to FILE as a program.

    The program computes the reward [n] of states [n, d] for any n. FILE is loaded back and
    compared with the release; where they differ, no file is left and the command fails.
    """
    from iirl_export.exported import export as written

    found = written(release, file, format=format, dtype=dtype)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    click.echo(f"file:       {found.path} ({found.size:,} bytes)")
    click.echo(f"manifest:   {found.manifest}")
    click.echo(
        f"parity:     at most {found.difference:.2g} apart on {found.states:,} states "
        f"(tolerance {found.tolerance:g})"
    )
