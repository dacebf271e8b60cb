"""`iirl status`, `score`, `explain` and `report`: reading what a run made."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from iirl_engine.errors import DataError, UsageError

_folder = click.Path(file_okay=False, path_type=Path)
_states = click.Path(dir_okay=False, path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@click.argument("folder", metavar="DIR", type=_folder)
@_json
def status(folder: Path, as_json: bool) -> None:
    """Show where the run in DIR stands: rounds, releases, open flaws, concerns and events."""
    from iirl_engine.counted import count
    from iirl_engine.knowledge import Knowledge
    from iirl_engine.layout import KNOWLEDGE, RELEASES
    from iirl_engine.records import Outcome
    from iirl_engine.summary import (
        left_open_lines,
        newest,
        plain,
        prediction_text,
        verdict,
        wrap,
    )

    if not (folder / KNOWLEDGE).exists():
        raise _no_run(folder)
    knowledge = Knowledge(folder)
    try:
        rounds, releases, events = knowledge.rounds(), knowledge.releases(), knowledge.events()
        concerns = knowledge.concerns()
        regions, ended = knowledge.regions(), knowledge.audits_ended(len(rounds) + 1)
        left_open = knowledge.left_open()
    finally:
        knowledge.close()
    open_flaws = rounds[-1].open if rounds else 0
    newest_release = folder / RELEASES / f"{max(releases, default=0):04d}"
    so_far = verdict(
        Outcome(folder, newest_release, rounds, open_flaws, (), concerns=concerns, unfinished=ended)
    )
    predictions = next((turn.predictions for turn in reversed(rounds) if turn.predictions), ())
    open_regions = sum(region.open > 0 for region in regions)
    if as_json:
        body = {
            "run": str(folder),
            "verdict": {"level": so_far.level, "text": so_far.text},
            "rounds": len(rounds),
            "open_flaws": open_flaws,
            "regions": [region.to_json() for region in regions],
            "left_open": [attrs.asdict(left) for left in left_open],
            "predictions": [attrs.asdict(told) for told in predictions],
            "audits_ended": list(ended),
            "suspected": sum(ended.values()),
            "releases": [f"{number:04d}" for number in releases],
            "stable": _stable(folder),
            "concerns": [concern.to_json() for concern in concerns],
            "events": [{"at": at, "round": number, "text": text} for at, number, text in events],
        }
        click.echo(json.dumps(body, indent=1))
        return
    click.echo(f"run:        {folder}")
    click.echo(f"rounds:     {len(rounds)}")
    suspected = f", and {count(sum(ended.values()), 'state')} suspected, not verified yet"
    click.echo(f"open flaws: {open_flaws:,}{suspected if ended else ''}")
    click.echo(f"regions:    {len(regions):,}, of which {open_regions:,} open")
    if ended:
        told = ", ".join(f"{name} (suspects {states:,})" for name, states in ended.items())
        click.echo(f"unfinished: round {len(rounds) + 1}, audits that ended: {told}")
    click.echo(f"releases:   {', '.join(f'{number:04d}' for number in releases) or 'none'}")
    click.echo(f"stable:     {_stable(folder) or 'none'}")
    for prediction in predictions:
        wrong = "WRONG, " if prediction.wrong else ""
        click.echo(_wrapped(f"predicted:  {wrong}{plain(prediction_text(prediction))}"))
    for line in left_open_lines(left_open):
        click.echo(line)
    for concern in newest(concerns):
        told = f"round {concern.round}, {plain(concern.auditor)}, {concern.kind}"
        grave = "GRAVE, " if concern.grave else ""
        click.echo(_wrapped(f"concern:    {grave}{told}: {plain(concern.text)}"))
    for at, number, text in events:
        click.echo(_wrapped(f"event:      {at} round {number}: {text}"))
    click.echo("\n".join(wrap(f"{so_far.level}: {so_far.text}")))


def _wrapped(text: str) -> str:
    from iirl_engine.summary import wrap

    return "\n".join(wrap(text, 12 * " "))


@click.command()
@click.argument("release", type=_folder)
@click.argument("states", type=_states)
@_json
def score(release: Path, states: Path, as_json: bool) -> None:
    """Score STATES (.npy, .npz or .csv) with RELEASE, a release or run directory.

    Prints one reward per line, in the order of the states.
    """
    from iirl_engine.release import load_release

    model = load_release(release)
    rewards = model(read_states(states, model.demonstrations.feature_names)).tolist()
    if as_json:
        click.echo(json.dumps({"release": str(release), "rewards": rewards}))
        return
    sys.stdout.writelines(f"{reward:.9g}\n" for reward in rewards)


@click.command()
@click.argument("release", type=_folder)
@click.argument("states", type=_states)
@_json
def explain(release: Path, states: Path, as_json: bool) -> None:
    """Say why RELEASE gives STATES their reward: loss, corrections, nearest expert, norms."""
    from iirl_engine.release import load_release

    model = load_release(release)
    asked = read_states(states, model.demonstrations.feature_names)
    found = model.explain(asked)
    if as_json:
        body = {
            "release": str(release),
            "features": list(model.demonstrations.feature_names),
            "states": [why.to_json() for why in found],
        }
        click.echo(json.dumps(body, indent=1))
        return
    for row, (state, why) in enumerate(zip(asked.tolist(), found, strict=True)):
        click.echo(f"state {row} ({_listed(state)}): reward {why.reward:.4g}")
        click.echo(f"  base reward {why.base:.4g} from expertness loss {why.loss:.4g}")
        for name, taken in why.corrections:
            click.echo(f"  correction {name} takes off {taken:.4g}")
        nearest = _listed(why.nearest_state)
        click.echo(f"  nearest expert state ({nearest}) at distance {why.distance:.4g}")
        for name, violation in why.violated:
            click.echo(f"  norm {name} is violated by {violation:.4g}")
        click.echo(f"  uncertainty {why.uncertainty:.3f}, audit coverage {why.coverage:.3f}")
        if why.strength != 1:
            click.echo(f"  the schedule applies it with strength {why.strength:.4g} at first")


@click.command()
@click.argument("folder", metavar="DIR", type=_folder)
@_json
def report(folder: Path, as_json: bool) -> None:
    """Write the reports of the run in DIR again, as its chain says.

    The plugins that audited and repaired need not be there any more.
    """
    from iirl_engine.layout import CHAIN
    from iirl_engine.reporting import report_again

    if not (folder / CHAIN).is_file():
        raise _no_run(folder)
    outcome = report_again(folder)
    if as_json:
        body = {
            "run": str(folder),
            "files": [str(file) for file in outcome.reports],
            "missing": list(outcome.missing),
        }
        click.echo(json.dumps(body))
        return
    for file in outcome.reports:
        click.echo(file)
    for gone in outcome.missing:
        click.echo(f"iirl: since the run, {gone}", err=True)


def read_states(path: Path, names: Sequence[str]) -> Any:
    """Return the array `[n, d]` of a file: .npy, `states` of an .npz, or .csv with a header.

    Non-finite states are kept: a reward model answers 0 to them.

    Parameters
    ----------
    path
        The file.
    names
        Names of the features; those columns of a .csv are read, in this order.

    Raises
    ------
    DataError
        When the file holds no such array.
    """
    import numpy as np

    from iirl_engine.demonstrations import state_array

    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = arrays["states"]
        elif path.suffix == ".npy":
            with path.open("rb") as file:
                values = np.load(file, allow_pickle=False)
        elif path.suffix == ".csv":
            values = _read_csv(path, names)
        else:
            raise UsageError("states come from .npy, .npz or .csv files", got=path.name, where=path)
    except FileNotFoundError:
        raise UsageError("there is no such file", where=path) from None
    except KeyError:
        raise DataError("the file has no array 'states'", where=path) from None
    except (DataError, UsageError):
        raise
    except Exception as error:  # a damaged file breaks its reader in many ways
        raise DataError("the states cannot be read", where=path, got=error) from error
    return state_array(values, "states", path, finite=False)


def _read_csv(path: Path, names: Sequence[str]) -> Any:
    import csv

    import numpy as np

    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    header = [name.strip() for name in rows[0]] if rows else []
    if twice := [name for name in names if header.count(name) > 1]:
        raise DataError(f"the first line names the feature {twice[0]!r} twice", where=path)
    if missing := [name for name in names if name not in header]:
        raise DataError(
            f"the first line does not name the feature {missing[0]!r}",
            where=path,
            got=", ".join(header) or "an empty file",
            known=names,
        )
    if not rows[1:]:
        raise DataError(
            "the file has a header and no rows",
            where=path,
            next_step="write one line per state below the header",
        )
    columns = [header.index(name) for name in names]
    try:
        table = [[float(row[column]) for column in columns] for row in rows[1:]]
    except IndexError:
        raise DataError("a line has fewer values than the first line names", where=path) from None
    return np.array(table).reshape(len(table), len(columns))


def _listed(state: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in state)


def _no_run(folder: Path) -> UsageError:
    return UsageError(
        "this directory holds no run",
        where=folder,
        next_step="name a directory that iirl run made",
    )


def _stable(folder: Path) -> str | None:
    from iirl_engine.layout import CHANNELS, STABLE

    pointer = folder / CHANNELS / STABLE
    try:
        return str(json.loads(pointer.read_bytes())["release"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
