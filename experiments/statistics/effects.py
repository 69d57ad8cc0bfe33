"""How large a paired difference is beside its own noise, and how many seeds would show it."""

import math

import numpy as np
from scipy import special

from experiments.statistics.intervals import CONFIDENCE, LEVEL, UNKNOWN, Estimate, Interval, Spread
from experiments.statistics.noncentral import noncentral_t_cdf, noncentrality_of

POWER = 0.8
MOST_SEEDS = 100_000


def standardised_effect(difference: Spread) -> Estimate:
    """The paired difference in units of its own standard deviation, without the bias of small samples.

    ``g_z = J mean / sd`` with Hedges' ``J = Γ(f / 2) / (sqrt(f / 2) Γ((f - 1) / 2))``, ``f = n - 1``. The interval
    holds the values ``δ / sqrt(n)`` for which a noncentral t with noncentrality ``δ`` has the observed
    ``t = sqrt(n) mean / sd`` within its middle 95%.

    Returns:
        NaN for fewer than three pairs, or where nothing differs; infinite, without an interval, where all pairs
        differ by the same amount.

    Source:
        Hedges (1981), Distribution theory for Glass's estimator of effect size, equation 6e; Steiger and Fouladi
        (1997), Noncentrality interval estimation and the evaluation of statistical models.
    """
    n, mean, sd = difference.n, difference.mean, difference.sd
    if n < 3 or (sd == 0 and mean == 0):
        return Estimate(np.nan, UNKNOWN)
    if sd == 0:
        return Estimate(math.copysign(math.inf, mean), UNKNOWN)
    freedom = n - 1
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    t = math.sqrt(n) * mean / sd
    tail = (1 - CONFIDENCE) / 2
    low, high = (noncentrality_of(p, abs(t), freedom) / math.sqrt(n) for p in (1 - tail, tail))
    interval = Interval(low, high) if t >= 0 else Interval(-high, -low)
    return Estimate(correction * mean / sd, interval)


def power_of(effect: float, pairs: int, *, level: float = LEVEL) -> float:
    """Chance that a two-sided paired t test of so many pairs rejects, for a standardised ``effect``.

    Source:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, section 2.3.5.
    """
    critical = float(special.stdtrit(pairs - 1, 1 - level / 2))
    shift = abs(effect) * math.sqrt(pairs)
    return 1 - noncentral_t_cdf(critical, pairs - 1, shift) + noncentral_t_cdf(-critical, pairs - 1, shift)


def seeds_needed(effect: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """The least number of paired seeds with which a paired t test finds ``effect`` with this power.

    Args:
        effect: the standardised effect, e.g. that of :func:`standardised_effect`.
        level: of the two-sided test; ``LEVEL / m`` where it must pass Holm's first step among ``m``.
        power: chance of finding it.

    Returns:
        A whole number, at least 2; infinity where it would be above ``MOST_SEEDS``, NaN where the effect is unknown.
    """
    if math.isnan(effect):
        return math.nan
    if math.isinf(effect):
        return 2.0
    enough = 2
    while enough < MOST_SEEDS and power_of(effect, enough, level=level) < power:
        enough = min(2 * enough, MOST_SEEDS)
    if power_of(effect, enough, level=level) < power:
        return math.inf
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if power_of(effect, middle, level=level) < power:
            short = middle
        else:
            enough = middle
    return float(enough)
