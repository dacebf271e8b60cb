"""Examples of hooks: their own tests pass, and the how-to shows all of them."""

from __future__ import annotations

import re
from pathlib import Path

from iirl_engine.hookspecs import LIFECYCLE
from tests.distributions import Environment, layered_environment, write_installed
from tests.pages import blocks, written

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib"
HOOKS = CONTRIB / "iirl-hooks-example"
HOW_TO = blocks(ROOT / "docs" / "write-a-hook.md")
COMMANDS = """
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_commands():
    yield Offer("lab", "acme_lab.cli:lab", summary="open the lab notebook")
"""
LAB = """
import click


@click.command()
@click.option("--count", default=0)
def lab(count):
    click.echo(f"{count} notes")
"""


def test_the_tests_of_the_hooks_example_pass(tmp_path: Path) -> None:
    environment = layered_environment(tmp_path / "venv")
    copy = tmp_path / HOOKS.name
    for name, text in written(HOOKS).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    done = environment.shell("\n".join(b.text for b in HOW_TO if b.language == "sh"), copy)
    assert done.code == 0, done.out + done.stderr
    assert re.search(r"\b\d+ passed in", done.out)


def test_every_file_of_the_hooks_example_is_in_the_how_to_and_no_other() -> None:
    assert {block.caption: block.text for block in HOW_TO if block.caption} == written(HOOKS)


def test_the_hooks_example_implements_every_lifecycle_hook() -> None:
    text = (HOOKS / "iirl_hooks_example" / "hooks.py").read_text()
    assert set(re.findall(r"^@hookimpl\ndef (\w+)\(", text, re.MULTILINE)) == set(LIFECYCLE)


def test_a_command_of_a_plugin_is_a_command_of_iirl(tmp_path: Path) -> None:
    files = {"hooks.py": COMMANDS, "cli.py": LAB}
    environment = Environment(path=(write_installed(tmp_path, "acme-lab", files=files),))
    done = environment.iirl("lab", "--count", "3")
    assert (done.code, done.out) == (0, "3 notes\n")
    assert "lab" in environment.iirl("--help").out
