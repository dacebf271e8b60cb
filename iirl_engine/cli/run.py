"""`iirl run` and `iirl demo`: from a chain file to a hardened reward."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from iirl_engine.cli.progress import shown
from iirl_engine.errors import UsageError, did_you_mean
from iirl_engine.installed import normalise
from iirl_engine.records import Outcome

_chain_options = [
    click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        help="Run directory [default: runs/NAME, or the next free runs/NAME-N].",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override an option, such as audit.pgd.steps=80; may be repeated.",
    ),
    click.option("--disable", multiple=True, metavar="PLUGIN", help="Do not import this plugin."),
    click.option("--resume", is_flag=True, help="Go on with the run that --out holds."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
]


def _with_chain_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_chain_options):
        command = option(command)
    return command


@click.command()
@click.argument("chain", type=click.Path(dir_okay=False, path_type=Path))
@_with_chain_options
def run(chain: Path, **asked: Any) -> None:
    """Run CHAIN: learn a reward, then audit, refine and release it until no flaw is found.

    Results go to stdout, progress to stderr. Exits with 1 when flaws stay open or a release
    was refused or vetoed, with 3 when an auditor has a grave concern, with 5 when one failed.
    """
    sys.exit(_run(chain, **asked))


@click.command()
@click.argument("name", default="figure1")
@_with_chain_options
def demo(name: str, **asked: Any) -> None:
    """Run the demo NAME: figure1 (a toy world), pointmaze (MuJoCo) or icu-sepsis (patients)."""
    recipes = _recipes()
    if name not in recipes:
        raise UsageError("there is no such demo", got=name, known=sorted(recipes))
    sys.exit(_run(recipes[name], **asked))


def _run(
    chain: Path,
    *,
    out: Path | None,
    overrides: tuple[str, ...],
    disable: tuple[str, ...],
    resume: bool,
    as_json: bool,
) -> int:
    if resume and out is None:
        raise UsageError("--resume needs --out, the run directory to go on with")
    from iirl_engine.chain import read_chain

    checked = read_chain(chain, overrides=overrides, disable=disable)
    installed = [plugin.dist for plugin in checked.registry.plugins]
    for name in disable:
        if normalise(name) not in installed:
            hint = did_you_mean(normalise(name), installed)
            raise UsageError(
                "--disable names no installed plugin", got=name, known=installed, next_step=hint
            )
    with shown() as show:
        show(f"chain {chain.name}: checked")
        from iirl_engine.flywheel import Flywheel
        from iirl_engine.rundir import free_folder

        flywheel = Flywheel(checked, out or free_folder(Path("runs"), chain.stem))
        try:
            outcome = flywheel.run(resume=resume, progress=show)
        except KeyboardInterrupt:
            show(f"interrupted; what was found is kept, --out {flywheel.out} --resume goes on")
            raise
    if as_json:
        click.echo(json.dumps(outcome.to_json(), indent=1))
    else:
        from iirl_engine.summary import summarize

        if sys.stdout.isatty():
            click.echo()
        click.echo(summarize(outcome))
    return exit_code(outcome)


def exit_code(outcome: Outcome) -> int:
    """Return 0 for a clean outcome, 3 for a grave concern, 5 when an auditor failed, else 1."""
    last = outcome.rounds[-1] if outcome.rounds else None
    if last and any(audit.grave for audit in last.audits):
        return 3
    if last and not last.sound:
        return 5
    return 0 if outcome.ok else 1


def _recipes() -> dict[str, Path]:
    """Return demo name -> chain file: packaged in a wheel, beside the package in a checkout."""
    import iirl_engine

    package = Path(iirl_engine.__file__).parent
    folders = (package / "recipes", package.parent / "contrib" / "recipes")
    folder = next((f for f in folders if f.is_dir()), folders[0])
    return {file.stem: file for file in folder.glob("*.toml")}
