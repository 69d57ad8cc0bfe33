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

    def best(self) -> float:
        """The best level, by the means over all seeds; see :func:`best_level`."""
        return 10 ** float(best_level(np.log10(self.levels), self.values.mean(axis=0)[None])[0])


class Move(NamedTuple):
    """Two conditions of one family of arms, of the same seeds."""

    first: Condition
    second: Condition


def steadiness(steady: Move, moving: Move, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """By how many decades more the best level moves in ``moving`` than in ``steady``, with a bootstrap interval.

    The best level of a condition is the lowest point of the parabola, over the levels' logarithms, through the level of
    the least mean over the seeds and the two beside it: else all moves would be as coarse as the levels, and a
    difference of two equal ones, with no spread at all, would pass for certain. A least mean at an end stays there. A
    move is the distance of the two best levels in decades. Seeds are resampled, the same in all four conditions.

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
    first, second = (best_level(np.log10(each.levels), each.values[chosen].mean(axis=1)) for each in move)
    return np.abs(second - first)


def best_level(
    levels: Float[np.ndarray, " levels"], means: Float[np.ndarray, "rows levels"]
) -> Float[np.ndarray, " rows"]:
    """Where the parabola through the least of each row and its two neighbours is lowest; the end, where that is least.

    Args:
        levels: of the factor, in any order, all different.
        means: of the metric.
    """
    order = np.argsort(levels)
    levels, means = levels[order], means[:, order]
    least = means.argmin(axis=1)
    middle, rows = np.clip(least, 1, len(levels) - 2), np.arange(len(means))
    (x0, y0), (x1, y1), (x2, y2) = ((levels[middle + i], means[rows, middle + i]) for i in (-1, 0, 1))
    # Newton's divided differences; the lowest point is where their derivative is 0.
    slope = (y1 - y0) / (x1 - x0)
    bend = ((y2 - y1) / (x2 - x1) - slope) / (x2 - x0)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = (x0 + x1) / 2 - slope / (2 * bend)
    inside = (least == middle) & (bend > 0)
    return np.where(inside, lowest, levels[least])
