"""What a reward is learned from: expert states, the norms and the box that come with them."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from iirl_engine.support import Support

    Array = NDArray[np.float64]


@attrs.frozen
class Domain:
    """The box that auditors search: lowest and highest value of each feature."""

    low: tuple[float, ...]
    high: tuple[float, ...]


@attrs.frozen
class NormSpec:
    """A norm that a source brings along, written like a `[[norm]]` table."""

    use: str
    id: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False, slots=False)
class Demonstrations:
    """Expert data, checked by `iirl_engine.demonstrations.check`.

    Parameters
    ----------
    states
        `[n, d]` expert states.
    feature_names
        `d` unique names.
    held_out
        `[m, d]` expert states that nothing is fitted on; may be empty.
    known_good
        `[k, d]` further states whose reward must be kept; may be empty.
    negatives
        `[m, d]` states that are known not to be expert; may be empty.
    t
        `[n]` time of each state, or None.
    episode
        `[n]` integer episode of each state, or None.
    norms
        Norms that the source knows of, such as the walls of a maze.
    domain
        Where auditors may look, when the source knows it.
    origin
        Where the data came from, for reports.
    held_out_episode
        `[m]` episode of each held-out state, or None.
    weights, negative_weights
        `[n]` and `[m]` >= 0: how much each state counts in eq. 2, by the source's judgement; the
        engine multiplies them by the schedule's β. None where all are 1.
    """

    states: Array
    feature_names: tuple[str, ...]
    held_out: Array
    known_good: Array
    negatives: Array
    t: Array | None = None
    episode: NDArray[np.int64] | None = None
    norms: tuple[NormSpec, ...] = ()
    domain: Domain | None = None
    origin: str = ""
    weights: Array | None = None
    negative_weights: Array | None = None
    held_out_episode: NDArray[np.int64] | None = None

    @functools.cached_property
    def support(self) -> Support:
        """Distance to the expert states, indexed on first use and shared by all who ask."""
        from iirl_engine.support import Support

        return Support(self.states)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every array and name, in hex."""
        import numpy as np

        digest = hashlib.sha256(repr(self.feature_names).encode())
        names = (
            "states held_out held_out_episode known_good negatives t episode weights "
            "negative_weights"
        )
        for name in names.split():
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
