"""Where a factor is at its best, and how far that moves when something else changes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.statistics.bootstrap import RESAMPLES, expanded_confidence, percentile_interval
from experiments.statistics.intervals import UNKNOWN, Estimate


class Condition(NamedTuple):
    """What came of each level of a factor under one condition.

    Attributes:
        levels: of the factor, above 0.
        values: of the metric, by seed; less is better.
    """

    levels: Float[np.ndarray, " levels"]
    values: Float[np.ndarray, "seeds levels"]


class Move(NamedTuple):
    """Two conditions of one family of arms, of the same seeds."""

    first: Condition
    second: Condition


def steadiness(steady: Move, moving: Move, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """By how many decades more the best level moves in ``moving`` than in ``steady``, with a bootstrap interval.

    The best level of a condition is the one of the least mean over the seeds; a move is the distance of the two best
    levels in decades. Seeds are resampled, the same in all four conditions.

    Returns:
        the interval is unknown for fewer than two seeds.
    """
    count = steady.first.values.shape[0]
    everything = np.arange(count)[None]
    estimate = float(_difference(steady, moving, everything)[0])
    if count < 2:
        return Estimate(estimate, UNKNOWN)
    chosen = np.random.default_rng(seed).integers(0, count, (resamples, count))
    draws = _difference(steady, moving, chosen)
    return Estimate(estimate, percentile_interval(draws, confidence=expanded_confidence(count - 1)))


def _difference(steady: Move, moving: Move, chosen: np.ndarray) -> Float[np.ndarray, " resamples"]:
    return _moved(moving, chosen) - _moved(steady, chosen)


def _moved(move: Move, chosen: np.ndarray) -> Float[np.ndarray, " resamples"]:
    best = [np.log10(each.levels)[each.values[chosen].mean(axis=1).argmin(axis=1)] for each in move]
    return np.abs(best[1] - best[0])
