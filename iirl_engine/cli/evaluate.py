"""`iirl evaluate`: how good a release is, by recordings of policies."""

from __future__ import annotations

import json
from pathlib import Path

import click

_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("release", type=_folder)
@click.option(
    "--policies",
    "recorded",
    required=True,
    type=_folder,
    metavar="DIR",
    help="Folder with one .npz of states per policy.",
)
@click.option("--out", type=_folder, metavar="DIR", help="Write evaluation.html, with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(release: Path, recorded: Path, out: Path | None, as_json: bool) -> None:
    """Judge RELEASE, a release or run directory, by recordings of policies.

    Shows how it orders them beside their true return, how far it is from the true reward, where
    it is flat, what trivial policies earn, and what it rejects. The floor is the release's own.
    """
    from iirl_engine.evaluation import evaluate as judge
    from iirl_engine.evaluation import read_policies
    from iirl_engine.release import load_release

    model = load_release(release)
    policies = read_policies(recorded, width=model.width)
    found = judge(model, policies, floor=_floor(release))
    written = None
    if out is not None:
        from iirl_engine.evaluation.page import FILE, render

        out.mkdir(parents=True, exist_ok=True)
        written = out / FILE
        page = render(found, model, policies, str(release))
        written.write_bytes(page.encode("utf-8", "replace"))
    if as_json:
        body = {
            "release": str(release),
            **found.to_json(),
            "report": None if written is None else str(written),
        }
        click.echo(json.dumps(body, indent=1))
        return
    from iirl_engine.evaluation.text import render as as_text

    click.echo(as_text(found))
    if written is not None:
        click.echo(f"\nreport: {written}")


def _floor(release: Path) -> float:
    """Return the floor of a release that was loaded, or of a run's stable one."""
    from iirl_engine.layout import CHANNELS, RELEASES, STABLE
    from iirl_engine.release import read_manifest

    if (release / RELEASES).is_dir():
        stable = json.loads((release / CHANNELS / STABLE).read_bytes())
        release = release / RELEASES / stable["release"]
    return float(read_manifest(release)["floor"])
