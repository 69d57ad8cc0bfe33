"""What may be concluded from a few paired numbers. Pure functions of NumPy arrays.

A value that is not finite stands for a trial without a result (it diverged or crashed). It never
disappears: means leave its pair out and count it as ``lost``; ranks take it as the worst.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

CONFIDENCE = 0.95
LEVEL = 0.05

# Up to this many pairs all sign flips are enumerated: 2^19 sums, by symmetry, in 4 MB.
EXACT_PAIRS = 20
MONTE_CARLO_FLIPS = 100_000


class Interval(NamedTuple):
    """A 95% confidence interval; both ends are NaN where the data allow none."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Several measurements of one quantity.

    Attributes:
        n: number of finite values; all that follows describes these.
        lost: number of values that are not finite.
        mean: their mean; NaN for n = 0.
        sd: sample standard deviation (divisor n - 1); NaN for n < 2.
        interval: Student-t 95% interval of the mean; NaN for n < 2.
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
    """Mean, standard deviation, t interval and range of the finite ``values``.

    The interval is ``mean ± t(0.975, n - 1) sd / sqrt(n)``.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    n = finite.size
    mean = float(finite.mean()) if n else np.nan
    sd = float(finite.std(ddof=1)) if n > 1 else np.nan
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / np.sqrt(n) if n > 1 else np.nan
    return Spread(
        n=n,
        lost=values.size - n,
        mean=mean,
        sd=sd,
        interval=Interval(float(mean - half), float(mean + half)),
        minimum=float(finite.min()) if n else np.nan,
        maximum=float(finite.max()) if n else np.nan,
    )


def paired_difference(arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"]) -> Spread:
    """Spread of ``arm - baseline``, pair by pair.

    A pair of which either value is not finite is left out of the mean and counted in ``lost``.
    """
    complete = np.isfinite(arm) & np.isfinite(baseline)
    differences = np.full(arm.shape, np.nan)
    differences[complete] = arm[complete].astype(np.float64) - baseline[complete].astype(np.float64)
    return spread(differences)


def sign_flip_p_value(arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"]) -> float:
    """Two-sided p-value of the paired sign-flip permutation test for a mean difference of zero.

    Under the null the sign of each pair's difference is a fair coin. The p-value is the share of
    the ``2^n`` sign vectors ``s`` with ``|sum_i s_i d_i| >= |sum_i d_i|``. It is exact up to
    ``EXACT_PAIRS`` complete pairs; beyond, it is estimated from ``MONTE_CARLO_FLIPS`` random flips
    with a fixed seed as ``(b + 1) / (m + 1)``, which keeps the test valid.

    Metrics come from the device as float32, so two sums that would be equal in exact arithmetic
    (accuracies are multiples of one over the number of examples) differ by rounding. Sums closer
    than that rounding count as ties; ties raise the p-value, never lower it.

    Returns:
        The p-value; NaN without a complete pair.

    Source:
        Fisher (1935), The Design of Experiments, section 21; Phipson and Smyth (2010),
        Permutation p-values should never be zero, for the Monte Carlo estimator.
    """
    complete = np.isfinite(arm) & np.isfinite(baseline)
    first, second = arm[complete].astype(np.float64), baseline[complete].astype(np.float64)
    differences = first - second
    n = differences.size
    if n == 0:
        return np.nan
    tolerance = n * np.finfo(np.float32).eps * np.abs([first, second]).max()
    threshold = abs(differences.sum()) - tolerance
    if n <= EXACT_PAIRS:
        # The first sign stays +: flipping every sign changes no absolute sum.
        sums = differences[:1]
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= threshold))
    generator = np.random.default_rng(0)
    extreme = 0
    for flips in np.array_split(np.arange(MONTE_CARLO_FLIPS), 10):
        signs = generator.choice([-1.0, 1.0], size=(flips.size, n))
        extreme += int(np.sum(np.abs(signs @ differences) >= threshold))
    return (extreme + 1) / (MONTE_CARLO_FLIPS + 1)


def smallest_p_value(pairs: int) -> float:
    """The smallest p-value that :func:`sign_flip_p_value` can give for so many pairs: ``2 / 2^n``."""
    if pairs == 0:
        return np.nan
    return 2.0 / 2**pairs if pairs <= EXACT_PAIRS else 1 / (MONTE_CARLO_FLIPS + 1)


def pairs_needed(comparisons: int) -> int:
    """The least number of pairs with which ``comparisons`` tests under Holm can all reach ``LEVEL``.

    The smallest corrected p-value of ``m`` comparisons with ``n`` pairs each is ``2 m / 2^n``.
    """
    return next(n for n in itertools.count(1) if 2 * comparisons / 2**n < LEVEL)


def holm(p_values: Float[np.ndarray, " comparisons"]) -> Float[np.ndarray, " comparisons"]:
    """Holm's step-down adjusted p-values, which bound the family-wise error rate.

    For the i-th smallest of m (from 1): ``max_{j <= i} min(1, (m - j + 1) p_(j))``. A comparison
    that could not be tested (NaN) stays NaN and still counts in m. The correction never decreases
    when any p-value rises, so applied to the smallest attainable p-values it gives the smallest
    attainable corrected ones.

    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    filled = np.where(np.isnan(p_values), 1.0, p_values)
    order = np.argsort(filled, kind="stable")
    factors = filled.size - np.arange(filled.size)
    adjusted = np.empty(filled.shape)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * filled[order]))
    return np.where(np.isnan(p_values), np.nan, adjusted)


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
        return Superiority(np.nan, Interval(np.nan, np.nan))
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
        return probability - p - z * float(np.sqrt(p * (1 - p) * inner / (runs * others)))

    # Just below ``probability`` the excess is negative, at zero positive; at exactly 1 there is a
    # second, trivial root, which the upper bracket leaves out.
    return float(optimize.root_scalar(excess, bracket=(0.0, probability * (1 - 1e-9)), method="brentq").root)
