"""Which source of randomness moves the result most, when one at a time is varied."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import special

from experiments.statistics.intervals import CONFIDENCE, LEVEL, UNKNOWN, Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One source of randomness, varied while all others stay the same.

    Attributes:
        name: e.g. ``init``, ``order``, ``dropout``, ``split``.
        n: number of finite results.
        lost: number of trials without one.
        variance: sample variance of the results; NaN for n < 2.
        interval: 95% interval of the variance, from χ²: it takes the results as normal.
        share: ``variance`` over that of all sources varied at once; NaN where that is not known. Shares need not
            add up to one: sources may add to each other's effect, or hide it.
        share_interval: 95% interval of the share, from F; the same holds.
    """

    name: str
    n: int
    lost: int
    variance: float
    interval: Interval
    share: float
    share_interval: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribution:
    """What each source contributes.

    Attributes:
        sources: from the largest variance to the smallest; those of unknown variance last.
        dominant: the source that varies beyond doubt more than each of the others; None where it cannot be told.
        p_value: the largest p-value of the largest source against another (Brown and Forsythe, two-sided); NaN where
            no test is possible.
        reason: why there is no dominant source; empty where there is one.
    """

    sources: tuple[Source, ...]
    dominant: str | None
    p_value: float
    reason: str


def attribute(
    varied: Mapping[str, Float[np.ndarray, " _"]], together: Float[np.ndarray, " runs"] | None = None
) -> Attribution:
    """Compare the variances of results when one source at a time is varied.

    A source dominates when its variance is the largest and a test of equal spread against each other one, which does
    not rely on normal results, has p below 5%. Where a trial failed, its source has no variance to be trusted, and
    nothing dominates.

    Args:
        varied: for each source the results of runs that differ in it alone.
        together: results of runs that differ in all; None where there are none.

    Source:
        Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, section 2; Brown and
        Forsythe (1974), Robust tests for the equality of variances.
    """
    total = _finite(together) if together is not None else np.zeros(0)
    sources = [_source(name, values, total) for name, values in varied.items()]
    sources.sort(key=lambda source: -math.inf if math.isnan(source.variance) else source.variance, reverse=True)
    p_value, reason = math.nan, ""
    failed = [source.name for source in sources if source.lost]
    if len(sources) < 2:
        reason = "there is only one source"
    elif failed:
        reason = f"trials failed where {failed[0]} varied"
    elif min(source.n for source in sources) < 3:
        reason = "three runs of each source are the least that a test can use"
    elif sources[0].variance == 0:
        reason = "no source changes the result"
    else:
        results = [_finite(varied[source.name]) for source in sources]
        p_value = max(_equal_spread(results[0], other) for other in results[1:])
        if p_value >= LEVEL:
            reason = "the runs are too few to tell the sources apart, or two are alike"
    return Attribution(
        sources=tuple(sources), dominant=None if reason else sources[0].name, p_value=p_value, reason=reason
    )


def _finite(values: Float[np.ndarray, " runs"]) -> Float[np.ndarray, " finite"]:
    return values[np.isfinite(values)].astype(np.float64)


def _source(name: str, values: Float[np.ndarray, " runs"], total: Float[np.ndarray, " all"]) -> Source:
    results = _finite(values)
    n = results.size
    variance, interval = math.nan, UNKNOWN
    share, share_interval = math.nan, UNKNOWN
    tails = np.array([1 + CONFIDENCE, 1 - CONFIDENCE]) / 2
    if n > 1:
        variance = float(results.var(ddof=1))
        ends = (n - 1) * variance / special.chdtri(n - 1, 1 - tails)
        interval = Interval(float(ends[0]), float(ends[1]))
    if n > 1 and total.size > 1 and total.var() > 0:
        share = variance / float(total.var(ddof=1))
        ends = share / special.fdtri(n - 1, total.size - 1, tails)
        share_interval = Interval(float(ends[0]), float(ends[1]))
    return Source(
        name=name,
        n=n,
        lost=values.size - n,
        variance=variance,
        interval=interval,
        share=share,
        share_interval=share_interval,
    )


def _equal_spread(first: Float[np.ndarray, " runs"], second: Float[np.ndarray, " others"]) -> float:
    """The two-sample t test of the absolute deviations from each group's median."""
    deviations = [np.abs(group - np.median(group)) for group in (first, second)]
    sizes = np.array([group.size for group in deviations])
    freedom = int(sizes.sum()) - 2
    pooled = sum(((group - group.mean()) ** 2).sum() for group in deviations) / freedom
    difference = deviations[0].mean() - deviations[1].mean()
    if pooled == 0:
        return 0.0 if difference else 1.0
    t = abs(difference) / math.sqrt(pooled * (1 / sizes).sum())
    return float(2 * special.stdtr(freedom, -t))
