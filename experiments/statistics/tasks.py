"""One arm over several tasks: robust summaries of few runs on each.

Scores are normalised, so that tasks may be averaged: 0 is a task's worst or chance level, 1 what counts as solved.
Higher is better. A score that is not finite is a run that diverged or crashed. It is never left out: it counts as
zero, or as the lowest score of all where some are below zero.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from experiments.statistics.bootstrap import RESAMPLES, percentile_interval, stratified
from experiments.statistics.intervals import Estimate

Scores = Float[np.ndarray, "runs tasks"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """Summaries of an arm's scores over all runs and tasks, each with a 95% interval.

    Attributes:
        interquartile_mean: mean of the middle half of all runs of all tasks.
        mean: mean over tasks of the mean over runs.
        median: median over tasks of the mean over runs.
        optimality_gap: by how much runs fall short of 1 on average; what lies above 1 does not count.
        failed: number of runs without a result.
    """

    interquartile_mean: Estimate
    mean: Estimate
    median: Estimate
    optimality_gap: Estimate
    failed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A performance profile: for each threshold the share of runs, over all tasks, with a higher score.

    Attributes:
        thresholds: the scores on the axis.
        share: of runs above each.
        low: lower ends of pointwise 95% intervals.
        high: upper ends.
    """

    thresholds: Float[np.ndarray, " thresholds"]
    share: Float[np.ndarray, " thresholds"]
    low: Float[np.ndarray, " thresholds"]
    high: Float[np.ndarray, " thresholds"]


def summarise(scores: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> TaskSummary:
    """The four summaries with stratified bootstrap percentile intervals.

    Source:
        Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice, section 4.
    """
    ranked = with_failures(scores)
    whole = _summaries(ranked[None])[0]
    draws = stratified(ranked, _summaries, resamples=resamples, seed=seed)
    estimates = [
        Estimate(float(value), percentile_interval(drawn)) for value, drawn in zip(whole, draws.T, strict=True)
    ]
    return TaskSummary(
        interquartile_mean=estimates[0],
        mean=estimates[1],
        median=estimates[2],
        optimality_gap=estimates[3],
        failed=int(np.sum(~np.isfinite(scores))),
    )


def performance_profile(
    scores: Scores, thresholds: Float[np.ndarray, " thresholds"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Profile:
    """The score distribution: at each threshold the share of runs whose score is above it.

    Source:
        Agarwal et al. (2021), section 4.2, equation 1.
    """
    ranked = with_failures(scores)

    def shares(drawn: Float[np.ndarray, "resamples runs tasks"]) -> Float[np.ndarray, "resamples thresholds"]:
        flat = np.sort(drawn.reshape(len(drawn), -1), axis=1)
        below = np.stack([np.searchsorted(row, thresholds, side="right") for row in flat])
        return 1 - below / flat.shape[1]

    draws = stratified(ranked, shares, resamples=resamples, seed=seed)
    intervals = [percentile_interval(column) for column in draws.T]
    return Profile(
        thresholds=thresholds,
        share=shares(ranked[None])[0],
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
    )


def improvement_probability(
    arm: Scores, baseline: Float[np.ndarray, "others tasks"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The chance that a run of ``arm`` beats one of ``baseline`` on a task drawn at random.

    The mean over tasks of ``P(A > B) + P(A = B) / 2``; the runs of both sides are resampled within each task. A run
    without a result loses to all that have one.

    Source:
        Agarwal et al. (2021), section 4.3, equation 2.
    """
    first, second = (np.where(np.isfinite(side), side, -np.inf) for side in (arm, baseline))

    def probability(chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
        above = chosen[:, :, None] > others[:, None]
        equal = chosen[:, :, None] == others[:, None]
        return (above + 0.5 * equal).mean(axis=(1, 2, 3))

    generator = np.random.default_rng(seed)
    draws = np.empty(resamples)
    batch = max(1, 4_000_000 // max(1, len(first) * second.size))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        drawn = [
            np.take_along_axis(side[None], generator.integers(0, len(side), (size, *side.shape)), axis=1)
            for side in (first, second)
        ]
        draws[start : start + size] = probability(*drawn)
    return Estimate(float(probability(first[None], second[None])[0]), percentile_interval(draws))


def with_failures(scores: Scores) -> Scores:
    """The scores with those that are not finite at the bottom: zero, or the lowest of all below it."""
    finite = np.isfinite(scores)
    return np.where(finite, scores, min(0.0, scores[finite].min(initial=0.0)))


def _summaries(scores: Float[np.ndarray, "resamples runs tasks"]) -> Float[np.ndarray, "resamples 4"]:
    flat = np.sort(scores.reshape(len(scores), -1), axis=1)
    cut = flat.shape[1] // 4
    means = scores.mean(axis=1)
    return np.stack(
        [
            flat[:, cut : flat.shape[1] - cut].mean(axis=1),
            means.mean(axis=1),
            np.median(means, axis=1),
            1 - np.minimum(flat, 1).mean(axis=1),
        ],
        axis=1,
    )
