"""Known flaws as a pytest file: any later release must not endorse them again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import UsageError
from iirl_engine.release import make_room

Array = NDArray[np.float64]

# More numbers than this go into a file beside the tests.
_LITERAL = 3000

_HEAD = '''"""Flaws that audits found: no later release may have them again.

Written by `iirl audit --as-tests`; needs iirl-engine, the plugins of the release, and pytest. The
release under test is a release or run directory, named by the environment variable IIRL_RELEASE.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import iirl_engine

HERE = Path(__file__).parent
RELEASE = os.environ.get("IIRL_RELEASE") or HERE / {release!r}
FLOOR = {floor!r}  # a reward above this is an endorsement
'''

_LITERALS = """
# Region -> states, the worst flaw first.
REGIONS = {{
{regions}
}}
"""

_BESIDE = """
# Region -> states, the worst flaw first.
with np.load(HERE / {file!r}, allow_pickle=False) as arrays:
    REGIONS = dict(arrays)
"""

_TESTS = """

@pytest.fixture(scope="module")
def reward():
    return iirl_engine.load_release(RELEASE)


@pytest.mark.parametrize("region", list(REGIONS))
def test_flaws_are_closed(reward, region):
    states = np.array(REGIONS[region])
    rewards = reward(states)
    with torch.no_grad():
        violations = reward.violation(torch.tensor(states)).numpy()
    flawed = np.flatnonzero((rewards > FLOOR) & (violations > 0))
    if len(flawed):
        worst = flawed[rewards[flawed].argmax()]
        state = dict(zip(reward.demonstrations.feature_names, states[worst].tolist()))
        pytest.fail(
            f"{len(flawed)} of {len(states)} known flaws of region {region} are open in {RELEASE}: "
            f"the reward is {rewards[worst]:.3g}, above {FLOOR:g}, although a norm is violated by "
            f"{violations[worst]:.3g}, at {state}",
            pytrace=False,
        )
"""


def write_tests(
    file: Path, regions: Mapping[str, Array], floor: float, release: Path
) -> tuple[Path, ...]:
    """Write a pytest file that replays flaws, and return the files written.

    Parameters
    ----------
    file
        Where to, in a folder that is made; states that are too many for it are written beside it,
        as `.npz`.
    regions
        Region -> its flaws' states `[m, d]`, the worst first.
    floor
        Reward above this is an endorsement.
    release
        The release or run that is tested when the environment names none.

    Raises
    ------
    UsageError
        When the file's name does not end in `.py`, it cannot be written, or there is no flaw.
    """
    if file.suffix != ".py":
        raise UsageError("tests are written to a .py file", got=file.name, where="--as-tests")
    if not regions:
        raise UsageError(
            "no flaw is known, so there is nothing to test",
            where=release,
            next_step="iirl audit without --as-tests looks for some",
        )
    make_room(file)
    beside = os.path.relpath(release.resolve(), file.resolve().parent)
    head = _HEAD.format(release=Path(beside).as_posix(), floor=floor)
    files = [file]
    if sum(states.size for states in regions.values()) <= _LITERAL:
        body = _LITERALS.format(regions="\n".join(_literal(*item) for item in regions.items()))
    else:
        files.append(file.with_suffix(".npz"))
        arrays: dict[str, Any] = dict(regions)
        np.savez_compressed(files[1], **arrays)
        body = _BESIDE.format(file=files[1].name)
    file.write_text(head + body + _TESTS, encoding="utf-8")
    return tuple(files)


def _literal(region: str, states: Array) -> str:
    rows = "\n".join(f"        {row!r}," for row in states.tolist())
    return f'    "{region}": [\n{rows}\n    ],'
