"""Steps to a target, with runs that never arrive.

A run that does not reach the target within its steps is censored: all that is known is that it needs more. So is a
run that diverged or crashed. It counts with all the steps that it was to have, since it never arrives: failing early
must not look like having had little time.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy import special

from experiments.statistics.bootstrap import RESAMPLES, percentile_interval
from experiments.statistics.intervals import CONFIDENCE, UNKNOWN, Estimate, Interval

LEAST_PAIRS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When each run reached the target.

    Attributes:
        steps: the step of the first evaluation at or beyond the target; for a run that never was, its last step.
        arrived: whether it was.
    """

    steps: Float[np.ndarray, " trials"]
    arrived: Bool[np.ndarray, " trials"]

    @property
    def waiting(self) -> Float[np.ndarray, " trials"]:
        """The steps with infinity for runs that never arrived."""
        return np.where(self.arrived, self.steps, np.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survival:
    """The share of runs that have not arrived yet, after each step at which one arrived (Kaplan and Meier).

    Attributes:
        steps: at which runs arrived, rising.
        share: that is still on its way just after.
        low: lower ends of pointwise 95% intervals.
        high: upper ends.
    """

    steps: Float[np.ndarray, " arrivals"]
    share: Float[np.ndarray, " arrivals"]
    low: Float[np.ndarray, " arrivals"]
    high: Float[np.ndarray, " arrivals"]


def steps_to_target(
    steps: Real[np.ndarray, " steps"],
    curves: Float[np.ndarray, "trials steps"],
    target: float,
    *,
    higher_is_better: bool,
) -> Arrivals:
    """The first evaluation at which each curve is at the target or beyond; later setbacks do not count."""
    with np.errstate(invalid="ignore"):
        reached = np.asarray(curves >= target if higher_is_better else curves <= target) & np.isfinite(curves)
    arrived = np.asarray(reached.any(axis=1))
    first = np.where(arrived, reached.argmax(axis=1), steps.size - 1)
    return Arrivals(steps=steps.astype(np.float64)[first], arrived=arrived)


def kaplan_meier(arrivals: Arrivals) -> Survival:
    """The product-limit estimate ``S(t) = Π_{t_i <= t} (1 - d_i / n_i)`` with log-log intervals.

    ``d_i`` runs arrive at ``t_i`` among the ``n_i`` that have not before. With Greenwood's variance ``V`` of ``log S``,
    the interval is ``S^exp(±z sqrt(V) / log S)``.

    Source:
        Kaplan and Meier (1958), Nonparametric estimation from incomplete observations; Kalbfleisch and Prentice
        (2002), The Statistical Analysis of Failure Time Data, section 1.4.1, for the interval.
    """
    steps = np.unique(arrivals.steps[arrivals.arrived])
    arriving = np.array([np.sum(arrivals.arrived & (arrivals.steps == step)) for step in steps], float)
    at_risk = np.array([np.sum(arrivals.steps >= step) for step in steps], float)
    share = np.cumprod(1 - arriving / at_risk)
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(arriving / (at_risk * (at_risk - arriving)))
        spread = z * np.sqrt(variance) / np.log(share)
        # Where all have arrived the formula has no value: the share is zero, its interval unknown.
        low, high = (np.where(share > 0, share ** np.exp(sign * spread), np.nan) for sign in (-1, 1))
    return Survival(steps=steps, share=share, low=low, high=high)


def median_steps(arrivals: Arrivals) -> Estimate:
    """The steps after which half of the runs have arrived, with a 95% interval.

    The first step at which the estimated share still on its way is at most one half. The interval goes from the first
    step at which the lower end of that share's interval is, to the first at which its upper end is.

    Returns:
        Infinity where fewer than half arrive, and for an end that no step reaches; NaN without any run.

    Source:
        Brookmeyer and Crowley (1982), A confidence interval for the median survival time.
    """
    if not arrivals.steps.size:
        return Estimate(np.nan, UNKNOWN)
    survival = kaplan_meier(arrivals)

    def first(shares: Float[np.ndarray, " arrivals"]) -> float:
        below = np.flatnonzero(shares <= 0.5 + 1e-12)
        return float(survival.steps[below[0]]) if below.size else np.inf

    return Estimate(first(survival.share), Interval(first(survival.low), first(survival.high)))


def steps_ratio(arm: Arrivals, baseline: Arrivals, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Median steps of ``arm`` over those of ``baseline``, both by seed, with a paired bootstrap interval.

    The median needs no more of a censored run than that it is late. Seeds are resampled in pairs. A resample in which
    most runs of one side never arrive has the ratio infinity or zero; one in which neither's median is known could
    have any ratio: it widens the interval at both ends.

    Returns:
        NaN where in both arms more than half of the runs never arrive; infinity or zero where in one of them. The
        interval is unknown for fewer than ``LEAST_PAIRS`` pairs, whose resamples would cover too seldom (of three in
        74%).

    Raises:
        ValueError: the arms have not the same number of runs.

    Source:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    if arm.steps.shape != baseline.steps.shape:
        raise ValueError(f"paired runs are needed, not {arm.steps.size} and {baseline.steps.size}")
    waits = np.stack([arm.waiting, baseline.waiting])
    n = waits.shape[1]
    if n == 0:
        return Estimate(np.nan, UNKNOWN)
    estimate = float(_ratio(waits[:, None, :])[0])
    if n < LEAST_PAIRS:
        return Estimate(estimate, UNKNOWN)
    chosen = np.random.default_rng(seed).integers(0, n, (resamples, n))
    ratios = _ratio(waits[:, chosen])
    low = percentile_interval(np.where(np.isnan(ratios), 0.0, ratios)).low
    high = percentile_interval(np.where(np.isnan(ratios), np.inf, ratios)).high
    return Estimate(estimate, Interval(low, high))


def _ratio(waits: Float[np.ndarray, "2 resamples n"]) -> Float[np.ndarray, " resamples"]:
    """Ratio of medians; NaN where both are infinite."""
    medians = np.median(waits, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return medians[0] / medians[1]
