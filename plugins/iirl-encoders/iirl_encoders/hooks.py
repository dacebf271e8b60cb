"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_encoders import options as o
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_encoders() -> Iterator[Offer]:
    """What tells experts from strangers."""
    yield Offer(
        "moe-autoencoder",
        "iirl_encoders.moe:MoeAutoencoder",
        o.MoeAutoencoderOptions,
        "reconstruction error of a mixture of autoencoder experts",
    )
    yield Offer("knn", "iirl_encoders.knn:Knn", o.KnnOptions, "distance to the nearest experts")
    yield Offer(
        "kernel-mean",
        "iirl_encoders.kernel_mean:KernelMean",
        o.KernelMeanOptions,
        "kernel density of the experts",
    )
    yield Offer(
        "mmd-witness",
        "iirl_encoders.mmd_witness:MmdWitness",
        o.MmdWitnessOptions,
        "kernel mean of the experts minus that of negatives, which it needs",
    )
    yield Offer(
        "energy",
        "iirl_encoders.energy:Energy",
        o.EnergyOptions,
        "networks trained to tell experts from negatives, with a mapping of their own",
    )
    yield Offer(
        "rnd",
        "iirl_encoders.rnd:Rnd",
        o.RndOptions,
        "error of a network that foretells a random one on experts",
    )
    yield Offer(
        "flow",
        "iirl_encoders.flow:Flow",
        o.FlowOptions,
        "negative log-likelihood of a normalizing flow (needs zuko)",
    )


@hookimpl
def iirl_mappings() -> Iterator[Offer]:
    """Falling curves, from one number to many."""
    yield Offer("exp", "iirl_encoders.mappings:Exp", o.ExpOptions, "exponential decay in the loss")
    yield Offer(
        "linear", "iirl_encoders.mappings:Linear", o.LinearOptions, "1 - loss / cap, down to 0"
    )
    yield Offer(
        "sigmoid", "iirl_encoders.mappings:Sigmoid", o.SigmoidOptions, "a soft step in the loss"
    )
    yield Offer(
        "isotonic",
        "iirl_encoders.mappings:Isotonic",
        o.IsotonicOptions,
        "straight lines between knots, made to be edited",
    )
