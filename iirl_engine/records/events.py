"""What observers of a run are told, one record for each lifecycle hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path

    from iirl_engine.records.findings import Flaws
    from iirl_engine.records.rounds import Round


@attrs.frozen
class RunStarted:
    """Event of `iirl_run_started`."""

    run: Path
    chain: str
    plugins: tuple[tuple[str, str], ...]
    data: str


@attrs.frozen(eq=False)
class FlawsFound:
    """Event of `iirl_flaws_found`: the new confirmed flaws of a round."""

    run: Path
    round: int
    flaws: Flaws


@attrs.frozen
class RoundFinished:
    """Event of `iirl_round_finished`."""

    run: Path
    round: Round


@attrs.frozen
class ReleaseMade:
    """Event of `iirl_release_made`: `manifest` is the SHA-256 of its manifest."""

    run: Path
    release: Path
    manifest: str
