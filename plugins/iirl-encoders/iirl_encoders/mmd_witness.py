"""Eq. 2 in closed form: the witness of the maximum mean discrepancy of experts and negatives.

With a kernel κ and its Hilbert space H, eq. 2 over the unit ball of H is

    max over |f| <= 1 of E_expert[β f] - E_negative[β f] = MMD,

and f is proportional to the witness w(s) = k_E(s) - k_N(s), the difference of the two kernel means
k(s) = Σ_i β_i κ(s, s_i) / Σ_i β_i (Gretton et al., "A kernel two-sample test", JMLR 2012, section
2.3). Nothing is trained; a demonstration is a term of a sum. With several widths κ is the mean of
their kernels.

The loss takes the witness as it is, moved and scaled to run from 0 to 1 over the training states,

    A(s) = (w(s) - w_min) / (w_max - w_min).

Away from all data w is 0, which is a middling A: by itself the witness endorses whatever is unlike
both classes. So a second factor asks for support, the density of both classes together under a
narrower kernel, p(s) = (k'_E(s) + k'_N(s)) / 2, against a background density ε:

    S(s) = p(s) / (p(s) + ε),        L(s) = -log A(s) - log S(s).

Mapping `exp` with `l_min = 0, l_max = 1, steepness = 1` makes the reward A S. Both logarithms go
on where A or S run out: L grows with the squared distance to the nearest state of either class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from iirl_encoders import kernels
from iirl_encoders.options import MmdWitnessOptions
from iirl_encoders.scale import Scale
from iirl_engine import Abilities, Code, Context, DataError, Demonstrations, Encoder

# States of each class at which the range of the witness and the density are looked up.
_LOOKED_UP = 500
# A bends within about this much of 0, so that it stays above 0 and keeps a slope.
_BEND = 0.01
_LEAST_RANGE = 1e-12


class MmdWitness(Encoder[MmdWitnessOptions]):
    """The witness of experts and negatives, on features scaled by their spread within a class.

    Everything drawn at random follows from one number that a release keeps, so that unlearning is
    the fit on the rest itself; when the rest has no negatives, those of the fit are kept.
    Extending keeps scale and widths and changes the centers.
    """

    abilities = Abilities(negatives="required", unlearning=True, incremental=True)

    def fit(self, demonstrations: Demonstrations, context: Context) -> None:
        if len(demonstrations.negatives) == 0:
            raise DataError(
                "the witness tells experts from negatives, and there are no negatives",
                where=demonstrations.origin or None,
                next_step="add states that are known not to be expert, such as those of a random "
                "policy, as `negatives [m, d]`; or choose encoder kernel-mean, which does without",
            )
        self._learn(demonstrations, int(context.generator().integers(2**63)))

    def unlearn(self, rest: Demonstrations) -> None:
        self._learn(self._with_negatives(rest), self._seed)

    def extend(self, demonstrations: Demonstrations, context: Context) -> None:
        self._draw(self._with_negatives(demonstrations))
        self._settle()

    def witness(self, states: Tensor) -> Tensor:
        """Return w `[n]` from -1 to 1 of `states [n, d]`: k_E - k_N, before any rescaling."""
        return _difference(*self._log_means(self._scale(states)))

    def encode(self, states: Tensor) -> Code:
        scaled = self._scale(states)
        expert, negative = self._log_means(scaled)
        low, high = self._range
        likeness = (_difference(expert, negative) - low) / (high - low)
        density = torch.logaddexp(expert[:, -1], negative[:, -1]) - math.log(2)
        unlike = (-_log_bent(likeness)).clamp(min=0)
        return Code(scaled, unlike + softplus(self._background - density))

    def uncertainty(self, states: Tensor) -> Tensor:
        """Return 1 / sqrt(number of states of both classes behind the estimate).

        That number is n k'(s), summed over the classes, under the narrower kernel.
        """
        scaled = self._scale(states)
        expert, negative = (
            centers.log_number + centers.log_means(scaled, self._widths[-1:])[:, 0]
            for centers in (self._experts, self._negatives)
        )
        return kernels.doubt(torch.logaddexp(expert, negative))

    def tensors(self) -> dict[str, Tensor]:
        return {
            "center": self._scale.center,
            "spread": self._scale.spread,
            "seed": torch.tensor([self._seed]),
            "rows": self._rows,
            "weights": self._experts.weights,
            "negatives": self._raw_negatives,
            "negative_weights": self._negatives.weights,
            "widths": self._widths,
            "range": self._range,
            "background": self._background,
        }

    def restore(self, tensors: Mapping[str, Tensor], demonstrations: Demonstrations) -> None:
        self._seed = int(tensors["seed"])
        self._scale = Scale(tensors["center"], tensors["spread"])
        self._rows, self._raw_negatives = tensors["rows"], tensors["negatives"]
        experts = torch.tensor(demonstrations.states)[self._rows]
        self._experts = kernels.Centers(self._scale(experts), tensors["weights"])
        negatives = self._scale(self._raw_negatives)
        self._negatives = kernels.Centers(negatives, tensors["negative_weights"])
        self._widths, self._range = tensors["widths"], tensors["range"]
        self._background = tensors["background"]

    def _learn(self, demonstrations: Demonstrations, seed: int) -> None:
        self._seed = seed
        states = torch.tensor(demonstrations.states)
        negatives = torch.tensor(demonstrations.negatives)
        if self.options.standardize:
            self._scale = Scale.within(states, negatives)
        else:
            self._scale = Scale.identity(states.shape[1])
        self._draw(demonstrations)
        typical = kernels.typical_distance(self._experts.states, self._negatives.states)
        factors = [*self.options.widths, self.options.support_width]
        self._widths = typical * torch.tensor(factors, dtype=torch.float64)
        self._settle()

    def _with_negatives(self, given: Demonstrations) -> Demonstrations:
        """Return demonstrations with the negatives that were kept, if they have none."""
        if len(given.negatives):
            return given
        return attrs.evolve(
            given,
            negatives=self._raw_negatives.numpy(),
            negative_weights=self._negatives.weights.numpy(),
        )

    def _draw(self, demonstrations: Demonstrations) -> None:
        """Choose the centers of both classes."""
        states, negatives = demonstrations.states, demonstrations.negatives
        most, streams = self.options.centers, ([self._seed], [self._seed, 1])
        generator, beside = (np.random.default_rng(stream) for stream in streams)
        self._rows, shares = kernels.drawn_rows(
            demonstrations.weights, len(states), most, generator
        )
        rows, others = kernels.drawn_rows(
            demonstrations.negative_weights, len(negatives), most, beside
        )
        self._raw_negatives = torch.tensor(negatives)[rows]
        self._experts = kernels.Centers(self._scale(torch.tensor(states)[self._rows]), shares)
        self._negatives = kernels.Centers(self._scale(self._raw_negatives), others)

    def _settle(self) -> None:
        """Look up the range of the witness and the background density, 1 % quantile times ε."""
        some = torch.cat([c.states[:_LOOKED_UP] for c in (self._experts, self._negatives)])
        expert, negative = self._log_means(some)
        witness = _difference(expert, negative)
        low, high = witness.min(), witness.max()
        self._range = torch.stack([low, torch.maximum(high, low + _LEAST_RANGE)])
        density = torch.logaddexp(expert[:, -1], negative[:, -1]) - math.log(2)
        sparse = torch.quantile(density, 0.01)
        self._background = (sparse + math.log(self.options.background))[None]

    def _log_means(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Return log k_E and log k_N `[n, j + 1]`: the witness's kernels, then the narrower one."""
        expert, negative = (
            centers.log_means(scaled, self._widths) for centers in (self._experts, self._negatives)
        )
        return expert, negative


def _difference(expert: Tensor, negative: Tensor) -> Tensor:
    """Return the witness `[n]`: k_E - k_N, mean over its kernels."""
    return (expert[:, :-1].exp() - negative[:, :-1].exp()).mean(dim=1)


def _log_bent(share: Tensor) -> Tensor:
    """Return log(b softplus(share / b)), b = 0.01: log(share), but finite and sloped below 0."""
    bent = share / _BEND
    within = bent.clamp(min=-30)
    log = torch.where(bent > -30, softplus(within).log(), bent)
    return log + math.log(_BEND)
