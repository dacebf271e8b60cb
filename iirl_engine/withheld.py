"""Which flaws refiners are not shown, so that closure can be judged on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iirl_engine.records import Flaws

# Of the new flaws of a region, the share that is withheld; of smaller regions, none.
_SHARE = 0.2
_SMALLEST = 10


def withhold(
    flaws: Flaws, regions: Sequence[NDArray[np.int64]], is_new: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return `[m]` which flaws are withheld: a fifth of each region's new ones.

    Chosen are those whose ids, hashes of their states, come first: which they are depends on
    nothing but the flaws. A region's worst flaw is always shown, and so is every flaw of an earlier
    round, so that none is withheld twice.

    Parameters
    ----------
    flaws
        All flaws of the run.
    regions
        Rows of the flaws of each region, the worst first.
    is_new
        `[m]` whether each was found in this round.
    """
    held = np.zeros(len(flaws), dtype=np.bool_)
    for rows in regions:
        if len(rows) < _SMALLEST:
            continue
        new = sorted((row for row in rows[1:] if is_new[row]), key=lambda row: flaws.ids[row])
        held[new[: int(_SHARE * len(new))]] = True
    return held
