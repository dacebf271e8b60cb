"""What an audit probably left unseen: regions that are still to be found, and flawed volume."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from iirl_engine.audit import Verified
from iirl_engine.records import Remaining
from iirl_engine.regions import Groups

_CONFIDENCE = 0.95
# Quantile of the normal distribution that leaves 2.5 % on either side.
_NORMAL = 1.959963984540054


def unseen(groups: Groups, audits: Sequence[Verified]) -> Remaining:
    """Return what a round's audits say of the rest, once their findings are grouped."""
    ids, regions = groups.flaws.ids, groups.flaws.regions
    region_of = dict(zip(ids, regions, strict=True))
    found = Counter(region_of[flaw] for audit in audits for flaw in audit.confirmed)
    return remaining(
        list(found.values()),
        sum(audit.result.draws for audit in audits),
        sum(audit.result.flawed for audit in audits),
    )


def remaining(findings: Sequence[int], draws: int, flawed: int) -> Remaining:
    """Return what findings and uniform draws say of the rest.

    Parameters
    ----------
    findings
        For each region that was found, how many confirmed reports lie in it.
    draws, flawed
        Uniform draws of the domain, and how many of them are flaws.
    """
    counts = np.asarray(findings, dtype=np.int64)
    total, once = int(counts.sum()), int((counts == 1).sum())
    expected, low, high = chao1(counts.tolist())
    return Remaining(
        regions=len(counts),
        findings=total,
        once=once,
        twice=int((counts == 2).sum()),
        expected=expected,
        low=low,
        high=high if math.isfinite(high) else None,
        unseen=once / total if total else 1.0,
        draws=draws,
        flawed=flawed,
        volume=flawed_volume(draws, flawed) if draws else None,
    )


def flawed_volume(draws: int, flawed: int) -> float:
    """Return the share of the domain that is flawed at most, with a confidence of 95 %.

    The upper limit of Clopper & Pearson (1934). When no draw is a flaw it is 1 - 0.05^(1/n), about
    3/n: the rule of three (Hanley & Lippman-Hand 1983), which holds whatever ended the draws.
    """
    if flawed >= draws:
        return 1.0
    return float(betaincinv(flawed + 1, draws - flawed, _CONFIDENCE))


def chao1(counts: Sequence[int]) -> tuple[float, float, float]:
    """Return how many classes there are, and a 95 % interval, from the individuals of each.

    The bias-corrected estimator Chao 1 (Chao 1984, 1987) of the number of classes, with S seen, f1
    of them once and f2 twice among n individuals,

        S + (n - 1) / n * f1 (f1 - 1) / (2 (f2 + 1)),

    a lower bound when classes are not equally easy to find; its variance and log-normal interval
    as in EstimateS (Colwell 2013, appendix B, equations 6, 13 and 14). Without individuals
    nothing is known: the interval ends at infinity.
    """
    seen, n = len(counts), sum(counts)
    if n == 0:
        return 0.0, 0.0, math.inf
    f1, f2 = (sum(count == k for count in counts) for k in (1, 2))
    k = (n - 1) / n
    unseen = k * f1 * (f1 - 1) / (2 * (f2 + 1))
    if unseen == 0:
        share = sum(math.exp(-count) for count in counts) / seen
        spread = sum(math.exp(-c) - math.exp(-2 * c) for c in counts)
        spread -= sum(c * math.exp(-c) for c in counts) ** 2 / n
        middle = seen / (1 - share)
        half = _NORMAL * math.sqrt(max(spread, 0.0)) / (1 - share)
        return float(seen), max(float(seen), middle - half), middle + half
    variance = (
        unseen
        + k**2 * f1 * (2 * f1 - 1) ** 2 / (4 * (f2 + 1) ** 2)
        + k**2 * f1**2 * f2 * (f1 - 1) ** 2 / (4 * (f2 + 1) ** 4)
    )
    factor = math.exp(_NORMAL * math.sqrt(math.log1p(variance / unseen**2)))
    return seen + unseen, seen + unseen / factor, seen + unseen * factor
