"""The `iirl` command line: what each command imports, it imports when it runs."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from typing import Any

import click

from iirl_engine import __version__
from iirl_engine.errors import IirlError, UsageError, did_you_mean

# Command -> module of this package that defines it; the order is that of `iirl --help`.
COMMANDS = {
    "run": ("run", "Run a chain file: learn, audit, refine, release."),
    "demo": ("run", "Run a demo: figure1 or pointmaze."),
    "status": ("inspect", "Show where a run stands."),
    "audit": ("audit", "Audit a release, or turn known flaws into tests."),
    "score": ("inspect", "Score states with a release."),
    "explain": ("inspect", "Say why states get their reward."),
    "corrections": ("corrections", "List, show, preview and remove corrections."),
    "evaluate": ("evaluate", "Judge a release by recordings of policies."),
    "verify": ("verify", "Check a release, and a certificate of it."),
    "report": ("inspect", "Write a run's reports again."),
    "plugins": ("plugins", "List, show, check and pin plugins."),
    "schema": ("plugins", "Print the JSON Schema of chain files."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_offered()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module = importlib.import_module(f"iirl_engine.cli.{COMMANDS[name][0]}")
            command: click.Command = getattr(module, name)
            return command
        entry = _offered().get(name)
        return None if entry is None else entry.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            ctx.fail(f"no such command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        rows += [(name, entry.offer.summary) for name, entry in _offered().items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _offered() -> dict[str, Any]:
    """Return the commands that plugins offer; a built-in command keeps its name."""
    from iirl_engine.plugins import Plugins
    from iirl_engine.registry import Registry

    entries = Registry(Plugins()).entries("command")
    return {e.offer.name: e for e in reversed(list(entries)) if e.offer.name not in COMMANDS}


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iirl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Audit and refine learned reward models.

    Exit codes: 0 ok, 1 open flaws or a refused or vetoed release, 2 usage or chain error,
    3 artifact refused, 4 knowledge base busy or corrupt, 5 plugin failure, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the only place where errors become messages and exit codes."""
    # The end of the process frees all memory; to search it for cycles first takes 10 ms.
    atexit.register(gc.freeze)
    given = sys.argv[1:] if arguments is None else arguments
    # The option is the group's; after a command it means the same.
    debug = "--debug" in given
    try:
        code = cli.main(
            args=[a for a in given if a != "--debug"], prog_name="iirl", standalone_mode=False
        )
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except IirlError as error:
        _show(error, str(error), debug)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output, such as `head`, has left; nobody is told at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        _show(error, str(UsageError(error.strerror or str(error), where=error.filename)), debug)
        code = 2
    except Exception as error:
        text = f"{type(error).__name__}: {error}\n  next:  this is a defect"
        _show(error, text if debug else f"{text}; --debug shows the traceback", debug)
        code = 5
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: Exception, text: str, debug: bool) -> None:
    if debug:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
    click.echo(f"iirl: {text}", err=True)
