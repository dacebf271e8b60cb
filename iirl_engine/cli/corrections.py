"""`iirl corrections`: what a release's corrections are, and what it would be without them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from iirl_engine.removal import Change, Preview

_folder = click.Path(file_okay=False, path_type=Path)
_release = click.argument("folder", metavar="DIR", type=_folder)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def corrections() -> None:
    """List, show, preview and remove the corrections of a release.

    DIR is a release, or a run, for its newest release.
    """


@corrections.command("list")
@_release
@_json
def list_(folder: Path, as_json: bool) -> None:
    """List the corrections of DIR, in the order they were added."""
    from iirl_engine.release import load_release
    from iirl_engine.removal import newest_subject
    from iirl_engine.summary import plain, table

    subject = newest_subject(folder)
    found = load_release(subject.release, manifest=subject.manifest).corrections
    if as_json:
        entries = [correction.describe() for correction in found]
        _print({"release": str(subject.release), "corrections": entries})
        return
    if not found:
        click.echo(f"{subject.release} has no corrections: it is the reward as learned")
        return
    heads = ("id", "kind", "refiner", "approved", "count", "round", "closes")
    rows = [
        (
            plain(c.id),
            c.kind,
            plain(c.refiner),
            plain(c.approved or "-"),
            f"{c.count:,}",
            str(c.round),
            "-" if c.closes is None else f"{c.closes:,}",
        )
        for c in found
    ]
    for line in table(heads, rows, left=4):
        click.echo(line)


@corrections.command()
@_release
@click.argument("id")
@_json
def show(folder: Path, id: str, as_json: bool) -> None:
    """Show correction ID of DIR: its parameters, and the flaws that it closed."""
    from iirl_engine.counted import count
    from iirl_engine.knowledge import Knowledge
    from iirl_engine.layout import KNOWLEDGE
    from iirl_engine.release import load_release
    from iirl_engine.removal import newest_subject, without
    from iirl_engine.summary import plain, wrap

    subject = newest_subject(folder)
    model = load_release(subject.release, manifest=subject.manifest)
    without(model, [id])  # refuses an id that there is not
    (found,) = (c for c in model.corrections if c.id == id)
    closed = None
    if subject.run is not None and (subject.run / KNOWLEDGE).is_file():
        knowledge = Knowledge(subject.run)
        try:
            closed = knowledge.closed_by(id)
        finally:
            knowledge.close()
    arrays: dict[str, dict[str, Any]] = {
        name: {
            "shape": list(array.shape),
            "low": float(array.min()) if array.size else None,
            "high": float(array.max()) if array.size else None,
        }
        for name, array in found.tensors().items()
    }
    if as_json:
        body = {"release": str(subject.release), "correction": found.describe(), "arrays": arrays}
        _print(body | {"closed": None if closed is None else list(closed)})
        return
    for name, value in found.describe().items():
        click.echo(f"{name}: {plain(value)}")
    for name, array in arrays.items():
        span = "" if array["low"] is None else f", from {array['low']:.4g} to {array['high']:.4g}"
        click.echo(f"{name}: {' x '.join(map(str, array['shape']))} numbers{span}")
    if closed is None:
        click.echo("flaws it closed: unknown, the release lies in no run")
        return
    named = f": {', '.join(closed[:20])}{' ...' if len(closed) > 20 else ''}" if closed else ""
    for line in wrap(f"flaws it closed: {count(len(closed), 'flaw')}{named}", "  "):
        click.echo(line)


@corrections.command()
@_release
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--states",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Tell of these states, too (.npy, .npz or .csv).",
)
@_json
def preview(folder: Path, ids: tuple[str, ...], states: Path | None, as_json: bool) -> None:
    """Say what would change if corrections ID... of DIR were removed; nothing is written."""
    from iirl_engine.cli.inspect import read_states
    from iirl_engine.release import load_release, read_manifest
    from iirl_engine.removal import newest_subject
    from iirl_engine.removal import preview as previewed

    subject = newest_subject(folder)
    asked = None
    if states is not None:
        load_release(subject.release, manifest=subject.manifest)
        asked = read_states(states, read_manifest(subject.release)["features"])
    told = previewed(subject, ids, asked)
    if as_json:
        _print({"release": str(subject.release)} | attrs.asdict(told))
        return
    _tell(told)


@corrections.command()
@_release
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove every correction.")
@click.option("--out", type=_folder, help="Write the release here [default: next of the run].")
@click.option("--reopen", is_flag=True, help="Go on even if closed flaws open again.")
@_json
def remove(
    folder: Path,
    ids: tuple[str, ...],
    everything: bool,
    out: Path | None,
    reopen: bool,
    as_json: bool,
) -> None:
    """Write DIR without corrections ID... as a new release; DIR itself stays as it is.

    Exits with 1, and writes nothing, if closed flaws would open again, unless --reopen is given.
    The new release does not become stable. With --out and no correction left it is release 0.
    """
    from iirl_engine.counted import count
    from iirl_engine.errors import UsageError
    from iirl_engine.release import load_release
    from iirl_engine.removal import newest_subject
    from iirl_engine.removal import preview as previewed
    from iirl_engine.removal import remove as removed
    from iirl_engine.summary import wrap

    subject = newest_subject(folder)
    if everything:
        found = load_release(subject.release, manifest=subject.manifest).corrections
        ids = tuple(correction.id for correction in found)
    if not ids:
        raise UsageError(
            "the release has no corrections" if everything else "no correction is named",
            where=subject.release,
            next_step="iirl corrections list says which there are",
        )
    told = previewed(subject, ids)
    if told.reopened and not reopen:
        if as_json:
            _print({"release": None, "left": None, "as_learned": None} | attrs.asdict(told))
        else:
            _tell(told)
            click.echo("nothing was written; --reopen removes them all the same")
        sys.exit(1)
    made = removed(subject, told, out)
    if as_json:
        _print(attrs.asdict(told) | attrs.asdict(made) | {"release": str(made.release)})
        return
    _tell(told)
    click.echo(f"release:        {made.release}, {count(len(made.left), 'correction')} left")
    if made.as_learned and not made.left:
        same = f"the same as in release 0, byte for byte: {', '.join(made.as_learned)}"
        for line in wrap(same):
            click.echo(line)
        if len(made.as_learned) < 3:
            click.echo("the others differ by the number of the release and what was removed")


def _tell(told: Preview) -> None:
    from iirl_engine.counted import count
    from iirl_engine.summary import plain, wrap

    for line in wrap(f"without:        {plain(', '.join(told.ids))}", " " * 16):
        click.echo(line)
    known = f"of {count(told.known, 'known flaw')}, {len(told.reopened):,} would open again"
    click.echo(f"flaws:          {known}")
    for line in wrap(f"                {', '.join(told.reopened[:8])}", " " * 16):
        if told.reopened:
            click.echo(line)
    click.echo(f"demonstrations: {_changed(told.demonstrations)}")
    if told.asked is not None:
        click.echo(f"states:         {_changed(told.asked)}")


def _changed(change: Change) -> str:
    return (
        f"{change.states:,}, reward {change.mean:+.3g} on average, {change.most:.3g} at most;\n"
        f"                {change.endorsed:,} newly endorsed"
    )


def _print(body: dict[str, Any]) -> None:
    click.echo(json.dumps(body, indent=1))
