from __future__ import annotations

import attrs

from iirl_engine import option


@attrs.frozen(kw_only=True)
class AuditorOptions:
    budget: int = option(4096, ge=1, help="reward queries per round")
    label: str = option("uniform", help="what the notes call it")


@attrs.frozen(kw_only=True)
class NormOptions:
    reach: float = option(2.0, gt=0, help="multiple of the experts' own spread")


@attrs.frozen(kw_only=True)
class ExecutorOptions:
    workers: int = option(1, ge=1, help="kept for the fashion of it")
