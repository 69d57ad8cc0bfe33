"""Ranks: how often a run of one arm is better than a run of another."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from experiments.statistics.intervals import CONFIDENCE, UNKNOWN, Interval


class Superiority(NamedTuple):
    """Probability of superiority and its 95% interval."""

    probability: float
    interval: Interval


def superiority(arm: Float[np.ndarray, " runs"], baseline: Float[np.ndarray, " others"]) -> Superiority:
    """The chance that a run of ``arm`` gives a higher value than an independent run of ``baseline``.

    ``P(A > B) + P(A = B) / 2`` over all pairs of runs, of equal seeds or not: the Mann-Whitney
    statistic divided by the number of pairs. A value that is not finite ranks below every finite
    one and ties with its like. Where lower is better, pass negated values.

    The interval inverts a score test, so it neither leaves [0, 1] nor shrinks to a point when one
    arm wins every pair: the ends solve ``(P - p)^2 = z^2 V(p)`` with
    ``V(p) = p (1 - p) (1 + N ((1 - p) / (2 - p) + p / (1 + p))) / (n m)`` and
    ``N = (n + m) / 2 - 1``. It takes the two samples as independent; sharing seeds makes it wider
    than it need be.

    Returns:
        NaN throughout where either side has no run.

    Source:
        Newcombe (2006), Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic, part 2, method 5.
    """
    if arm.size == 0 or baseline.size == 0:
        return Superiority(np.nan, UNKNOWN)
    first = np.where(np.isfinite(arm), arm, -np.inf)[:, None]
    second = np.where(np.isfinite(baseline), baseline, -np.inf)[None, :]
    probability = float(np.mean((first > second) + 0.5 * (first == second)))
    low = _score_bound(probability, arm.size, baseline.size)
    # V(p) = V(1 - p): the upper end is the lower end for the other arm.
    high = 1.0 - _score_bound(1.0 - probability, arm.size, baseline.size)
    return Superiority(probability, Interval(low, high))


def _score_bound(probability: float, runs: int, others: int) -> float:
    """The root below ``probability`` of the equation in :func:`superiority`."""
    from scipy import optimize  # as late as this: it loads slowly, and the first step would wait for it

    if probability == 0.0:
        return 0.0
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    balance = (runs + others) / 2 - 1

    def excess(p: float) -> float:
        inner = 1 + balance * ((1 - p) / (2 - p) + p / (1 + p))
        return probability - p - z * math.sqrt(p * (1 - p) * inner / (runs * others))

    # Just below ``probability`` the excess is negative, at zero positive; at exactly 1 there is a
    # second, trivial root, which the upper bracket leaves out.
    return float(optimize.root_scalar(excess, bracket=(0.0, probability * (1 - 1e-9)), method="brentq").root)
