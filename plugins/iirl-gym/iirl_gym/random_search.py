"""A policy search that needs nothing but returns: augmented random search over linear policies."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Whitened:
    """States in units of the demonstrations: (s - mean) / deviation, cut to [-10, 10], and a 1.

    Parameters
    ----------
    mean, deviation
        `[d]` of the demonstrations; a feature in which these do not differ is left in its unit.
    """

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, states: Array) -> Whitened:
        """Return the units of demonstrations `[n, d]`."""
        deviation = states.std(axis=0)
        return cls(states.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, states: Array) -> Array:
        """Return `[..., d + 1]` of states `[..., d]`; what is not finite becomes 0."""
        away = np.nan_to_num((states - self.mean) / self.deviation, posinf=0.0, neginf=0.0)
        one = np.ones((*away.shape[:-1], 1))
        return np.concatenate([away.clip(-10, 10), one], axis=-1)


def ascend(
    weights: Array,
    earned: Callable[[Array], Array],
    generator: np.random.Generator,
    *,
    directions: int,
    noise: float,
    step: float,
) -> Array:
    """Return the weights of a policy after one step of augmented random search.

    Variant V1-t of Mania et al. (2018): of directions D_j, the better half b by max(r+, r-) counts,
    r+ and r- being what the policies W + noise D_j and W - noise D_j earn; with s the standard
    deviation of these rewards, W <- W + step / (b s) Σ_j (r+ - r-) D_j.

    Parameters
    ----------
    weights
        W, of any shape.
    earned
        From policies `[k, *shape]` to what each earns, `[k]`; asked once, with k twice the number
        of directions.
    """
    drawn = generator.normal(size=(directions, *weights.shape))
    both = np.concatenate([weights + noise * drawn, weights - noise * drawn])
    plus, minus = np.split(earned(both), 2)
    best = np.argsort(-np.maximum(plus, minus), kind="stable")[: max(1, directions // 2)]
    spread = np.concatenate([plus[best], minus[best]]).std()
    if spread == 0:
        return weights
    uphill = np.tensordot(plus[best] - minus[best], drawn[best], axes=1)
    return np.asarray(weights + step / (len(best) * spread) * uphill)
