"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from iirl_encoders import options as o
from iirl_engine import Offer, hookimpl

IIRL_API = 1


@hookimpl
def iirl_encoders() -> Iterator[Offer]:
    """Encoders that learn from positives alone."""
    yield Offer(
        "moe-autoencoder",
        "iirl_encoders.moe:MoeAutoencoder",
        o.MoeAutoencoderOptions,
        "reconstruction error of a mixture of autoencoder experts",
    )
    yield Offer("knn", "iirl_encoders.knn:Knn", o.KnnOptions, "distance to the nearest experts")


@hookimpl
def iirl_mappings() -> Iterator[Offer]:
    """Mappings with two numbers and one number."""
    yield Offer("exp", "iirl_encoders.mappings:Exp", o.ExpOptions, "exponential decay in the loss")
    yield Offer(
        "linear", "iirl_encoders.mappings:Linear", o.LinearOptions, "1 - loss / cap, down to 0"
    )
