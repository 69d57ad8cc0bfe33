"""What a tuning budget buys: the expected best validation score of so many trials."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from experiments.statistics.bootstrap import RESAMPLES, percentile_interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedBest:
    """The expected best score for each number of tuning trials.

    Attributes:
        budgets: numbers of trials, 1, 2, ...
        best: expected best score of so many.
        low: lower ends of pointwise 95% bootstrap intervals.
        high: upper ends.
        failed: tuning trials without a score, which count as the worst that has one.
    """

    budgets: Int[np.ndarray, " budgets"]
    best: Float[np.ndarray, " budgets"]
    low: Float[np.ndarray, " budgets"]
    high: Float[np.ndarray, " budgets"]
    failed: int


def expected_best(
    scores: Float[np.ndarray, " trials"], *, higher_is_better: bool, resamples: int = RESAMPLES, seed: int = 0
) -> ExpectedBest:
    """The mean over all subsets of ``k`` of the ``n`` trials of their best score, for each ``k``.

    ``Σ_i x_(i) C(i - 1, k - 1) / C(n, k)`` over the scores from worst to best: of all subsets of size ``k`` that share
    has the i-th as its best. It is the unbiased estimator; the customary one draws with replacement, which is too
    low for all ``k`` above one. It holds for trials drawn independently from one distribution, as random search does.

    Returns:
        NaN throughout where no trial has a score.

    Source:
        Tang et al. (2020), Showing your work doesn't always work, equations 5 to 7.
    """
    finite = np.isfinite(scores)
    n = scores.size
    budgets = np.arange(1, n + 1)
    sign = 1.0 if higher_is_better else -1.0
    failed = int(np.sum(~finite))
    if not finite.any():
        unknown = np.full(n, np.nan)
        return ExpectedBest(budgets=budgets, best=unknown, low=unknown, high=unknown, failed=failed)
    signed = np.where(finite, sign * scores, (sign * scores[finite]).min())
    weights = _weights(n)
    drawn = np.random.default_rng(seed).choice(signed, (resamples, n))
    draws = sign * np.sort(drawn, axis=1) @ weights
    intervals = [percentile_interval(column) for column in draws.T]
    return ExpectedBest(
        budgets=budgets,
        best=sign * np.sort(signed) @ weights,
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
        failed=failed,
    )


def _weights(n: int) -> Float[np.ndarray, "n n"]:
    """``C(i - 1, k - 1) / C(n, k)``, a row for each ``i``, a column for each ``k``."""
    i, k = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None, :]

    def log_choose(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return special.gammaln(top + 1) - special.gammaln(bottom + 1) - special.gammaln(top - bottom + 1)

    possible = i >= k
    return np.where(possible, np.exp(log_choose(np.maximum(i, k) - 1, k - 1) - log_choose(np.array(n), k)), 0.0)
