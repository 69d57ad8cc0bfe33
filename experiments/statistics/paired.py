"""Tests of a paired difference: sign flips of the values themselves, or of their ranks."""

import itertools
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from experiments.statistics.intervals import LEVEL

Test = Literal["sign_flip", "wilcoxon"]

# Up to this many pairs all sign flips are counted: 2^15 sums of either half, in milliseconds.
EXACT_PAIRS = 30
MONTE_CARLO_FLIPS = 100_000


def paired_p_value(
    arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"], *, test: Test = "sign_flip"
) -> float:
    """Two-sided p-value of one of the two paired tests. Higher values are better."""
    return wilcoxon_p_value(arm, baseline) if test == "wilcoxon" else sign_flip_p_value(arm, baseline)


def sign_flip_p_value(
    arm: Float[np.ndarray, " seeds"],
    baseline: Float[np.ndarray, " seeds"],
    *,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> float:
    """P-value of the paired sign-flip permutation test for a mean difference of zero.

    Under the null the sign of each pair's difference is a fair coin. The p-value is the share of
    the ``2^n`` sign vectors ``s`` with ``|sum_i s_i d_i| >= |sum_i d_i|``; against the one-sided alternative that
    ``arm`` is greater, without the absolute values. It is exact up to
    ``EXACT_PAIRS`` complete pairs; beyond, it is estimated from ``MONTE_CARLO_FLIPS`` random flips
    with a fixed seed as ``(b + 1) / (m + 1)``, which keeps the test valid. Pairs that are not complete are left out.

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
    one_sided = alternative == "greater"
    threshold = (differences.sum() if one_sided else abs(differences.sum())) - n * _rounding(first, second)
    if not one_sided and threshold <= 0:
        return 1.0
    if n <= EXACT_PAIRS:
        # Flipping every sign mirrors the sums: as many lie beyond the threshold on the other side.
        return _share_of_sums(differences, threshold) * (1 if one_sided else 2)
    generator = np.random.default_rng(0)
    extreme = 0
    for flips in np.array_split(np.arange(MONTE_CARLO_FLIPS), 10):
        sums = generator.choice([-1.0, 1.0], size=(flips.size, n)) @ differences
        extreme += int(np.sum((sums if one_sided else np.abs(sums)) >= threshold))
    return (extreme + 1) / (MONTE_CARLO_FLIPS + 1)


def _share_of_sums(differences: Float[np.ndarray, " pairs"], threshold: float) -> float:
    """The share of all sign vectors whose sum reaches the threshold.

    The sums of one half of the pairs are sorted, so that each sum of the other half finds its partners by bisection.
    """
    middle = differences.size // 2
    left, right = _signed_sums(differences[:middle]), np.sort(_signed_sums(differences[middle:]))
    below = np.searchsorted(right, threshold - left, side="left")
    return float(1 - below.sum() / (left.size * right.size))


def _signed_sums(differences: Float[np.ndarray, " some"]) -> Float[np.ndarray, " sums"]:
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def wilcoxon_p_value(arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, exact for any number of pairs and with ties.

    The absolute differences are ranked, equal ones (to float32's rounding) with their mean rank. Under the null the
    sign of each is a fair coin, which gives the distribution of ``W``, the sum of the positive ones' ranks, by adding
    one rank after another. Pairs without a difference are left out, as Wilcoxon did.

    A trial without a result is worse than any with one: the pair's difference is larger than all others, against
    the arm that failed. Where both failed there is no difference. Where lower is better, pass negated values.

    Returns:
        The p-value; 1 where all pairs are equal; NaN without a pair in which either finished.

    Source:
        Wilcoxon (1945), Individual comparisons by ranking methods.
    """
    differences = _ranked_differences(arm, baseline)
    if differences.size == 0:
        return np.nan
    finite = np.isfinite(arm) & np.isfinite(baseline)
    rounding = _rounding(arm[finite], baseline[finite])
    differences = differences[np.abs(differences) > rounding]
    if differences.size == 0:
        return 1.0
    doubled = _doubled_ranks(np.abs(differences), rounding)
    ways = np.ones(1)
    for rank in doubled:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
        ways /= 2.0
    statistic = int(doubled[differences > 0].sum())
    smaller = min(statistic, int(doubled.sum()) - statistic)
    return min(1.0, 2.0 * float(ways[: smaller + 1].sum()))


def _ranked_differences(
    arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"]
) -> Float[np.ndarray, " pairs"]:
    """Differences, infinite where one side failed; without the pairs in which both did."""
    first, second = (np.where(np.isfinite(side), side, -np.inf).astype(np.float64) for side in (arm, baseline))
    either = np.isfinite(first) | np.isfinite(second)
    return first[either] - second[either]


def _doubled_ranks(sizes: Float[np.ndarray, " pairs"], rounding: float) -> np.ndarray:
    """Twice the mean ranks of ``sizes``, in their order: whole numbers, whatever the ties."""
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order]
    new: Bool[np.ndarray, " pairs"] = np.ones(sizes.size, bool)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is a tie
        new[1:] = np.diff(ordered) > rounding
    group = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], sizes.size)
    doubled = np.empty(sizes.size, np.int64)
    doubled[order] = (first + last + 1)[group]
    return doubled


def _rounding(first: Float[np.ndarray, " pairs"], second: Float[np.ndarray, " pairs"]) -> float:
    """By how much float32 may have moved a difference of these values."""
    return float(np.finfo(np.float32).eps * np.abs([first, second]).max(initial=0.0))


def smallest_p_value(pairs: int, *, test: Test = "sign_flip") -> float:
    """The smallest two-sided p-value that either test can give for so many pairs: ``2 / 2^n``.

    Beyond ``EXACT_PAIRS`` the sign flips are sampled, which sets another bound.
    """
    if pairs == 0:
        return np.nan
    if test == "sign_flip" and pairs > EXACT_PAIRS:
        return 1 / (MONTE_CARLO_FLIPS + 1)
    return 2.0 / 2**pairs


def pairs_needed(comparisons: int) -> int:
    """The least number of pairs with which ``comparisons`` tests under Holm can all reach ``LEVEL``.

    The smallest corrected p-value of ``m`` comparisons with ``n`` pairs each is ``2 m / 2^n``.
    """
    return next(n for n in itertools.count(1) if 2 * comparisons / 2**n < LEVEL)
