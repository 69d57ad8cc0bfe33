"""Means of a few values and their intervals.

A value that is not finite stands for a trial without a result (it diverged or crashed). It never
disappears: means leave it out and count it as ``lost``; ranks take it as the worst.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

CONFIDENCE = 0.95
LEVEL = 0.05


class Interval(NamedTuple):
    """A 95% confidence interval; both ends are NaN where the data allow none."""

    low: float
    high: float


UNKNOWN = Interval(np.nan, np.nan)


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Several measurements of one quantity.

    Attributes:
        n: number of finite values; all that follows describes these.
        lost: number of values that are not finite.
        mean: their mean; NaN for n = 0.
        sd: sample standard deviation (divisor n - 1); NaN for n < 2.
        interval: 95% interval of the mean, :func:`mean_interval`; NaN for n < 2.
        minimum: the smallest.
        maximum: the largest.
    """

    n: int
    lost: int
    mean: float
    sd: float
    interval: Interval
    minimum: float
    maximum: float


def spread(values: Float[np.ndarray, " seeds"]) -> Spread:
    """Mean, standard deviation, interval of the mean and range of the finite ``values``."""
    finite = values[np.isfinite(values)].astype(np.float64)
    n = finite.size
    return Spread(
        n=n,
        lost=values.size - n,
        mean=float(finite.mean()) if n else np.nan,
        sd=float(finite.std(ddof=1)) if n > 1 else np.nan,
        interval=mean_interval(finite),
        minimum=float(finite.min()) if n else np.nan,
        maximum=float(finite.max()) if n else np.nan,
    )


def mean_interval(values: Float[np.ndarray, " seeds"], *, confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean, made longer on the side of the longer tail.

    The t interval is ``mean ± t(n - 1) sd / sqrt(n)``. Where the values are skewed, the mean of a few of them lies
    too often on the short side of the truth: of 95% intervals of five exponential values only 88% cover. So each end
    is the further out of that interval's and of the one that Hall's cubic transformation gives::

        mean - sd / sqrt(n) T(±t),    T(t) = sqrt(n) ((1 + g (t / sqrt(n) - g / (6 n)))^(1/3) - 1) / (g / 3)

    with ``g = mean((x - mean)³) / sd³``, the estimate of the skewness that varies least in few values. For symmetric
    values, and for two, what is left is the t interval; for normal ones the interval covers in 95% to 97%.
    ``tests/benchmarks/calibration.py`` measures it.

    Args:
        values: finite values.
        confidence: how often the interval is to cover the mean.

    Returns:
        NaN for fewer than two values.

    Source:
        Hall (1992), On the removal of skewness by transformation, section 2; Joanes and Gill (1998), Comparing
        measures of sample skewness and kurtosis, for ``g`` (their b1).
    """
    n = values.size
    if n < 2:
        return UNKNOWN
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    quantile = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    skewness = 0.0
    if sd > 8 * np.finfo(np.float64).eps * np.abs(values).max():  # otherwise they differ by their own rounding alone
        skewness = float((((values - mean) / sd) ** 3).mean())
    low, high = (_without_skewness(sign * quantile, skewness, n) for sign in (1, -1))
    scale = sd / math.sqrt(n)
    return Interval(mean - scale * max(low, quantile), mean - scale * min(high, -quantile))


def _without_skewness(t: float, skewness: float, n: int) -> float:
    """``T(t)`` of :func:`mean_interval`."""
    if abs(skewness) < 1e-6:
        return t
    cube = 1 + skewness * (t / math.sqrt(n) - skewness / (6 * n))
    return math.sqrt(n) * (math.cbrt(cube) - 1) * 3 / skewness


def paired_difference(arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"]) -> Spread:
    """Spread of ``arm - baseline``, pair by pair.

    A pair of which either value is not finite is left out of the mean and counted in ``lost``.
    """
    complete = np.isfinite(arm) & np.isfinite(baseline)
    differences = np.full(arm.shape, np.nan)
    differences[complete] = arm[complete].astype(np.float64) - baseline[complete].astype(np.float64)
    return spread(differences)
