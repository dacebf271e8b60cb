from __future__ import annotations

import pytest

from iirl_engine.cli import main
from tests.commands import Done, Iirl


@pytest.fixture
def iirl(capsys: pytest.CaptureFixture[str]) -> Iirl:
    """Run the command line in this process."""

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Done(ended.value.code, told.out, told.err)

    return run
