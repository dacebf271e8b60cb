"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_engine import Offer, hookimpl

IIRL_API = 1
_OPTIONS = "iirl_encoders.options"


@hookimpl
def iirl_encoders() -> Iterator[Offer]:
    """What tells experts from strangers."""
    yield Offer(
        "moe-autoencoder",
        "iirl_encoders.moe:MoeAutoencoder",
        f"{_OPTIONS}:MoeAutoencoderOptions",
        "reconstruction error of a mixture of autoencoder experts",
    )
    yield Offer(
        "knn", "iirl_encoders.knn:Knn", f"{_OPTIONS}:KnnOptions", "distance to the nearest experts"
    )
    yield Offer(
        "kernel-mean",
        "iirl_encoders.kernel_mean:KernelMean",
        f"{_OPTIONS}:KernelMeanOptions",
        "kernel density of the experts",
    )
    yield Offer(
        "mmd-witness",
        "iirl_encoders.mmd_witness:MmdWitness",
        f"{_OPTIONS}:MmdWitnessOptions",
        "kernel mean of the experts minus that of negatives, which it needs",
    )
    yield Offer(
        "energy",
        "iirl_encoders.energy:Energy",
        f"{_OPTIONS}:EnergyOptions",
        "networks trained to tell experts from negatives, with a mapping of their own",
    )
    yield Offer(
        "rnd",
        "iirl_encoders.rnd:Rnd",
        f"{_OPTIONS}:RndOptions",
        "error of a network that foretells a random one on experts",
    )
    yield Offer(
        "flow",
        "iirl_encoders.flow:Flow",
        f"{_OPTIONS}:FlowOptions",
        "negative log-likelihood of a normalizing flow (needs zuko)",
    )


@hookimpl
def iirl_mappings() -> Iterator[Offer]:
    """Falling curves, from one number to many."""
    yield Offer(
        "exp",
        "iirl_encoders.mappings:Exp",
        f"{_OPTIONS}:ExpOptions",
        "exponential decay in the loss",
    )
    yield Offer(
        "linear",
        "iirl_encoders.mappings:Linear",
        f"{_OPTIONS}:LinearOptions",
        "1 - loss / cap, down to 0",
    )
    yield Offer(
        "sigmoid",
        "iirl_encoders.mappings:Sigmoid",
        f"{_OPTIONS}:SigmoidOptions",
        "a soft step in the loss",
    )
    yield Offer(
        "isotonic",
        "iirl_encoders.mappings:Isotonic",
        f"{_OPTIONS}:IsotonicOptions",
        "straight lines between knots, made to be edited",
    )
