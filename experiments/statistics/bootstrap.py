"""Resampling with replacement."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import special

from experiments.statistics.intervals import CONFIDENCE, UNKNOWN, Interval

RESAMPLES = 2000
# Numbers that one batch of resamples may hold: 64 MB.
_BATCH = 8_000_000


def stratified(
    scores: Float[np.ndarray, "runs tasks"],
    statistic: Callable[[Float[np.ndarray, "resamples runs tasks"]], Float[np.ndarray, "resamples values"]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "resamples values"]:
    """``statistic`` of resampled ``scores``: each task's runs are drawn anew, with replacement, by themselves.

    Source:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice, section 4.1.
    """
    generator = np.random.default_rng(seed)
    runs, tasks = scores.shape
    batch = max(1, _BATCH // max(scores.size, 1))
    found = []
    for start in range(0, resamples, batch):
        chosen = generator.integers(0, runs, (min(batch, resamples - start), runs, tasks))
        found.append(statistic(np.take_along_axis(scores[None], chosen, axis=1)))
    return np.concatenate(found)


def percentile_interval(draws: Float[np.ndarray, " resamples"], *, confidence: float = CONFIDENCE) -> Interval:
    """The middle ``confidence`` of the draws; infinite draws stay what they are."""
    if np.isnan(draws).any() or not draws.size:
        return UNKNOWN
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    # Interpolation between an infinite and a finite draw is neither.
    low, high = np.quantile(draws, tails, method="linear" if np.isfinite(draws).all() else "inverted_cdf")
    return Interval(float(low), float(high))


def expanded_confidence(freedom: float, *, confidence: float = CONFIDENCE) -> float:
    """The confidence at which a percentile interval has the width of Student's with so many degrees of freedom.

    ``2 Φ(t(f)) - 1``: percentiles of a bootstrap are about normal, which makes intervals from few values too short.

    Source:
        Hesterberg (2015), What teachers should know about the bootstrap, section 3.3.
    """
    return float(2 * special.ndtr(special.stdtrit(freedom, (1 + confidence) / 2)) - 1)
