"""Which release the rounds of a run endorse."""

from __future__ import annotations

import pytest

from iirl_engine.records import AuditStatus, AuditSummary, Round
from iirl_engine.stable import stable_release


def turn(
    *,
    release: int | None = None,
    confirmed: int = 0,
    still_open: int = 0,
    status: AuditStatus = "clean",
    vetoes: tuple[str, ...] = (),
) -> Round:
    audit = AuditSummary("a", status, confirmed, confirmed, 10, 0.0)
    return Round(
        number=1,
        found=confirmed,
        confirmed=confirmed,
        closed=confirmed - still_open,
        open=still_open,
        misses=0,
        corrections=0,
        queries=10,
        seconds=0.0,
        release=release,
        audits=(audit,),
        gates=(),
        vetoes=vetoes,
    )


@pytest.mark.parametrize(
    ("rounds", "stable"),
    [
        ([], None),
        ([turn()], 0),
        ([turn(status="crashed")], None),
        ([turn(status="over-budget")], None),
        ([turn(vetoes=("no",))], None),
        ([turn(confirmed=5, still_open=5)], None),
        ([turn(confirmed=5, release=1)], 1),
        ([turn(confirmed=5, still_open=1, release=1)], 1),
        ([turn(confirmed=5, release=1, status="crashed")], None),
        ([turn(confirmed=5, release=1, status="crashed"), turn()], 1),
        ([turn(confirmed=5, release=1), turn(confirmed=2, still_open=2)], 1),
        ([turn(confirmed=5, release=1), turn(confirmed=2, release=2), turn()], 2),
        ([turn(confirmed=5, release=1), turn(confirmed=1, release=2, status="crashed")], 1),
    ],
)
def test_a_release_is_stable_when_a_sound_round_made_it_or_found_it_clean(
    rounds: list[Round], stable: int | None
) -> None:
    assert stable_release(rounds) == stable
