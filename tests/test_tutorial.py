"""The tutorial "Your first auditor", done step by step in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.distributions import layered_environment
from tests.pages import SHELL, Block, blocks, written

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "contrib" / "iirl-audit-example"
BLOCKS = blocks(ROOT / "docs" / "first-auditor.md")


@attrs.frozen
class Step:
    """One block of commands: what it left, and the output that the text shows below it."""

    code: int
    out: str
    err: str
    shown: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial") / "iirl-audit-example"


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[Step]:
    """Write the files and run the commands in the order of the page."""
    folder.mkdir()
    environment = layered_environment(folder.parent / "venv")
    done = []
    for block, below in zip(BLOCKS, [*BLOCKS[1:], Block("", "", "")], strict=True):
        if block.caption:
            file = folder / block.caption
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)
        elif block.language in SHELL:
            ran = environment.shell(block.text, folder)
            shown = below.text if below.language == "text" else ""
            done.append(Step(ran.code, ran.out, ran.stderr, shown))
    return done


def test_every_file_of_the_example_is_in_the_tutorial_and_no_other() -> None:
    told = {block.caption: block.text for block in BLOCKS if block.caption}
    assert told == written(EXAMPLE)


def test_every_command_succeeds(steps: list[Step]) -> None:
    assert len(steps) == 5
    for step in steps:
        assert step.code == 0, step.out + step.err


def test_the_commands_say_what_the_text_shows(steps: list[Step]) -> None:
    shown = [step for step in steps if step.shown]
    assert len(shown) == 2
    for step in shown:
        said = iter(step.out.splitlines())
        missing = [line for line in step.shown.splitlines() if line not in said]
        assert not missing


def test_the_chain_used_the_new_auditor(steps: list[Step], folder: Path) -> None:
    chain = (folder / "runs" / "first" / "chain.toml").read_text()
    assert 'use = "iirl-audit-example:segment"' in chain
    assert '"iirl-audit-example==0.1.0"' in chain
    assert "auditor iirl-audit-example:segment" in steps[-1].out
