"""How claims on sweeps are judged: on arms that differ in the level of one factor."""

import math

import numpy as np
import pandas as pd

from experiments import formatting, statistics
from experiments.metric import Metric
from experiments.statements import BatchTradeoff, LessSensitive, Levels, SteadierOptimum
from experiments.statistics import Estimate, Interval
from experiments.statistics.batches import fit_tradeoff
from experiments.statistics.optima import Condition, Move, steadiness
from experiments.verdicts import Evidence, Verdict, band, concluded, estimated, measured, side, undecided, where


def less_sensitive(claim: LessSensitive, evidence: Evidence) -> Verdict:
    """The verdict on ``LessSensitive``."""
    metric, ran = evidence.metric(claim), evidence.trials
    seeds = sorted(set.intersection(*(set(ran.loc[ran["arm"] == arm, "seed"]) for arm in claim.arms)))
    table = evidence.table(claim).reindex(seeds)
    steady, other = (_sensitivity(table[list(arms)].to_numpy(np.float64), claim.worst, metric) for arms in claim.groups)
    spread = statistics.spread(steady - claim.ratio_at_most * other)
    means = [formatting.metric_number(statistics.spread(each).mean, metric) for each in (steady, other)]
    quantity = f"sensitivity of {claim.group[0]} and its group minus {claim.ratio_at_most:g} times that of the other"
    return concluded(
        claim,
        evidence,
        where(spread.interval, -math.inf, 0.0),
        quantity,
        spread,
        measured(quantity, spread, metric, signed=True),
        f"Mean sensitivities: {means[0]} and {means[1]}.",
        censored=True,
    )


def _sensitivity(values: np.ndarray, worst: float, metric: Metric) -> np.ndarray:
    """What the arms (columns) lose on average against the best of them, for each seed (rows); NaN where all failed."""
    sign = -1.0 if metric.higher_is_better else 1.0
    loss = np.minimum(np.where(np.isfinite(values), sign * values, np.inf), sign * worst)
    lost = np.mean(loss, axis=1) - np.min(loss, axis=1)
    return np.where(np.isfinite(values).any(axis=1), lost, np.nan)


def steadier_optimum(claim: SteadierOptimum, evidence: Evidence) -> Verdict:
    """The verdict on ``SteadierOptimum``."""
    table, metric = evidence.table(claim).dropna(), evidence.metric(claim)
    quantity = "difference of the moves of the best level, in decades"
    if table.empty:
        return undecided(claim, quantity, "No seed finished in all arms.")

    def move(family: tuple[Levels, Levels]) -> Move:
        return Move(*(condition(levels, table, metric) for levels in family))

    def best(family: tuple[Levels, Levels]) -> tuple[str, bool]:
        found, ended = [], False
        for each in move(family):
            level = each.best()
            ended = ended or any(math.isclose(level, end) for end in (each.levels.min(), each.levels.max()))
            found.append(f"{level:.3g}")
        return f"from {found[0]} to {found[1]}", ended

    moved = steadiness(move(claim.steady), move(claim.moving))
    (steady, steady_ended), (moving, moving_ended) = best(claim.steady), best(claim.moving)
    outcome = where(moved.interval, *side(positive=True))
    beyond = []
    # A best level at an end of what was run may lie farther away: that move is at least so long.
    if steady_ended if outcome == "supported" else moving_ended and outcome == "refuted":
        outcome = "inconclusive"
        beyond = ["A best level lies at an end of what was run; the real one may lie beyond."]
    low, high = moved.interval
    return concluded(
        claim,
        evidence,
        outcome,
        quantity,
        estimated(moved, len(table)),
        f"Over {formatting.count(len(table), 'seed')}, the best level moves {steady} where it is claimed to be "
        f"steadier, and {moving} in the other family: {moved.value:.3g} decades more (95% interval [{low:.3g}, "
        f"{high:.3g}]).",
        *beyond,
    )


def condition(levels: Levels, table: pd.DataFrame, metric: Metric) -> Condition:
    """The arms of one condition, for :mod:`experiments.statistics.optima`.

    Args:
        levels: the arms, and the level of each.
        table: the metric by seed (rows) and arm (columns), finite.
        metric: whose direction counts.
    """
    sign = -1.0 if metric.higher_is_better else 1.0
    values = sign * table[[arm for arm, _ in levels]].to_numpy(np.float64)
    return Condition(np.array([level for _, level in levels], np.float64), values)


def batch_tradeoff(claim: BatchTradeoff, evidence: Evidence) -> Verdict:
    """The verdict on ``BatchTradeoff``."""
    table, metric = evidence.table(claim), evidence.metric(claim)
    steps = table[[arm for arm, _ in claim.batches]].dropna().to_numpy(np.float64)
    quantity = "R^2 of the law of steps and examples"
    if claim.noise_of is not None:
        quantity = f"ratio of the critical batch to the gradient noise scale of {claim.noise_of}"
    try:
        fitted = fit_tradeoff(np.array([size for _, size in claim.batches], np.float64), steps)
    except ValueError as error:
        return undecided(claim, quantity, f"The law cannot be fitted: {error}.")
    found = fitted.r_squared
    critical, (least, most) = fitted.critical_batch
    sentences = [
        f"Over {formatting.count(len(steps), 'seed')} of each of {len(claim.batches)} batch sizes, the critical batch "
        f"by {metric.label} is {critical:.3g} (95% interval [{least:.3g}, {most:.3g}])"
    ]
    if claim.noise_of is not None:
        trials = evidence.trials[evidence.trials["arm"] == claim.noise_of]
        columns = [f"noise_scale_{part}" for part in ("variance", "gradient")]
        if not set(columns) <= set(trials):
            return undecided(claim, quantity, f"No trial of {claim.noise_of} has its noise scale measured.")
        # The ratio of the means: a mean of ratios is biased.
        noise = float(trials[columns[0]].mean() / trials[columns[1]].mean())
        found = Estimate(critical / noise, Interval(least / noise, most / noise))
        sentences.append(f" and the noise scale {noise:.3g}")
    low, high = found.interval
    return concluded(
        claim,
        evidence,
        where(found.interval, claim.low, claim.high),
        quantity,
        estimated(found, len(steps)),
        f"{''.join(sentences)}; the {quantity} is {found.value:.3g} (95% interval [{low:.3g}, {high:.3g}]).",
        f"Claimed: {band(claim.low, claim.high, lambda end: f'{end:g}')}.",
    )
