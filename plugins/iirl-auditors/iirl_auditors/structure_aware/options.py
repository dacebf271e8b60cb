"""Options of the structure-aware auditors; imports nothing heavy."""

from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class FixedPointOptions:
    """Options of auditor `fixed-point`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(12, ge=1, help="steps of each search for a fixed point")
    walks: float = option(
        0.4, ge=0.0, lt=1.0, help="share of the queries that walk on from what was found"
    )


@attrs.frozen(kw_only=True)
class PreimageOptions:
    """Options of auditor `preimage`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
    steps: int = option(4, ge=1, help="steps of each search for a state without error")


@attrs.frozen(kw_only=True)
class DecoderImageOptions:
    """Options of auditor `decoder-image`."""

    budget: int = option(4096, ge=1, help="reward queries per round")
    inflate: float = option(
        6.0, gt=1.0, help="largest multiple of the range of the demonstrations' codes"
    )


@attrs.frozen(kw_only=True)
class CorrectionProbeOptions:
    """Options of auditor `correction-probe`."""

    budget: int = option(8192, ge=1, help="reward queries per round")
