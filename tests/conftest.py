from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iirl_engine.cli import main
from tests.commands import Done, Iirl, Run, process
from tests.figure1_world import CHAIN


@pytest.fixture
def iirl(capsys: pytest.CaptureFixture[str]) -> Iirl:
    """Run the command line in this process."""

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Done(ended.value.code, told.out, told.err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One real run of the installed command, in a process of its own."""
    base = tmp_path_factory.mktemp("cli")
    chain, folder = base / "chain.toml", base / "run"
    chain.write_text(CHAIN)
    done = process("run", chain, "--out", folder, "--json")
    return Run(chain, folder, done)


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of that run, to damage."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    return finished._replace(folder=folder)
