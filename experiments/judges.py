"""How each kind of claim is judged, but for the comparison of two arms (see ``experiments.claims``).

A judge takes the claim and the evidence and gives the verdict. What it says must follow from an interval.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from experiments import formatting, statistics, sweeps
from experiments.metric import Metric
from experiments.statements import (
    BatchTradeoff,
    Claim,
    Equivalent,
    Exponent,
    Interaction,
    LessSensitive,
    Monotone,
    Ratio,
    SteadierOptimum,
    StepsToTarget,
    Within,
)
from experiments.statistics.reaching import Arrivals, steps_ratio, steps_to_target
from experiments.statistics.scaling import check_held_out, fit_power_law
from experiments.verdicts import Evidence, Verdict, band, concluded, estimated, measured, side, undecided, where


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """The verdict on a claim that is not a comparison of two arms."""
    return _JUDGES[type(claim)](claim, evidence)


def _equivalent(claim: Equivalent, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    difference = statistics.paired_difference(table[claim.arm].to_numpy(), table[claim.than].to_numpy())
    quantity = f"mean difference of {metric.label}, {claim.arm} minus {claim.than},"
    margin = formatting.metric_difference(claim.margin, metric)
    return concluded(
        claim,
        evidence,
        where(difference.interval, -claim.margin, claim.margin),
        quantity.removesuffix(","),
        difference,
        measured(quantity, difference, metric, signed=True),
        f"Equal means: less than {margin} apart.",
    )


def _ratio(claim: Ratio, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    quantity = f"ratio of {metric.label}, {claim.arm} over {claim.than}"
    pairs = table.to_numpy(np.float64)
    if (pairs <= 0).any():
        return undecided(claim, quantity, f"Ratios need positive numbers, and some {metric.label} is not.")
    logarithms = statistics.paired_difference(*np.log(pairs.T))
    low, high = (math.exp(end) for end in logarithms.interval)
    ratio = dataclasses.replace(logarithms, mean=math.exp(logarithms.mean), interval=statistics.Interval(low, high))
    return concluded(
        claim,
        evidence,
        where(ratio.interval, 0.0, claim.at_most),
        quantity,
        ratio,
        f"Over {formatting.count(ratio.n, 'seed')}, the {quantity}, is {ratio.mean:.3g} (95% interval [{low:.3g}, "
        f"{high:.3g}]). Claimed: at most {claim.at_most:g}.",
    )


def _within(claim: Within, evidence: Evidence) -> Verdict:
    metric = evidence.metric(claim)
    spread = statistics.spread(evidence.table(claim)[claim.arm].to_numpy())
    quantity = f"mean {metric.label} of {claim.arm}"
    claimed = band(claim.low, claim.high, lambda end: formatting.metric_number(end, metric))
    return concluded(
        claim,
        evidence,
        where(spread.interval, claim.low, claim.high),
        quantity,
        spread,
        measured(quantity, spread, metric, signed=False),
        f"Claimed: {claimed}{'%' if metric.percent else ''}.",
    )


def _interaction(claim: Interaction, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    arms = (claim.neither, claim.first, claim.second, claim.both)
    spread = statistics.interaction(*(table[arm].to_numpy(np.float64) for arm in arms)).contrast
    rises = (claim.sign == "more") == metric.higher_is_better
    quantity = f"interaction in {metric.label}"
    formula = f"({claim.both} - {claim.second}) - ({claim.first} - {claim.neither})"
    return concluded(
        claim,
        evidence,
        where(spread.interval, *side(rises)),
        quantity,
        spread,
        measured(f"{quantity}, {formula},", spread, metric, signed=True),
        f"Together {claim.sign} than the sum of both means {'above' if rises else 'below'} 0.",
    )


def _monotone(claim: Monotone, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    found = statistics.trend(table[list(claim.order)].to_numpy(np.float64))
    spread, rising = found.slope, claim.direction == "rising"
    outcome = where(spread.interval, *side(rising))
    against = [f"{claim.order[i]} to {claim.order[i + 1]}" for i in (found.falls if rising else found.rises)]
    quantity = f"change of {metric.label} per step"
    sentences = [measured(f"{quantity} along {', '.join(claim.order)}", spread, metric, signed=True)]
    if against:
        outcome = "refuted"
        sentences.append(f"The step from {formatting.listed(against)} goes the other way beyond chance.")
    return concluded(claim, evidence, outcome, quantity, spread, *sentences)


def _exponent(claim: Exponent, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    sizes = np.array([size for _, size in claim.sizes], np.float64)
    values = table.to_numpy(np.float64)
    seeds = int(np.isfinite(values).all(axis=1).sum())
    quantity = f"exponent b of {metric.label} = a size^-b"
    try:
        fitted = fit_power_law(sizes, values).exponent
    except ValueError as error:
        return undecided(claim, quantity, f"No power law can be fitted: {error}.")
    low, high = fitted.interval
    return concluded(
        claim,
        evidence,
        where(fitted.interval, claim.low, claim.high),
        quantity,
        estimated(fitted, seeds),
        f"Over {formatting.count(seeds, 'seed')} of each of {len(sizes)} sizes, the {quantity} has "
        f"b = {fitted.value:.3g} (95% interval [{low:.3g}, {high:.3g}]).",
        f"Claimed: from {claim.low:g} to {claim.high:g}.",
        *_held_out(sizes, values),
    )


def _held_out(sizes: np.ndarray, values: np.ndarray) -> Iterator[str]:
    """Whether a law that is fitted without the largest size foretells it; a fit alone cannot tell."""
    if np.unique(sizes).size < 4:
        return
    try:
        held = check_held_out(sizes, values)
    except ValueError:
        return
    low, high = held.interval
    yield (
        f"Fitted without the largest size, the law foretells {held.predicted:.4g} there (95% interval "
        f"[{low:.4g}, {high:.4g}]) and {held.observed:.4g} was observed, "
        f"{'within' if held.within else 'outside'} the interval."
    )


def _steps_to_target(claim: StepsToTarget, evidence: Evidence) -> Verdict:
    metric = evidence.metric(claim)
    other = claim.than_metric or metric
    goal = claim.target if claim.than_target is None else claim.than_target
    ran = [set(evidence.trials.loc[evidence.trials["arm"] == name, "seed"]) for name in (claim.arm, claim.than)]
    seeds = sorted(ran[0] & ran[1])
    arm = _arrivals(claim.arm, seeds, metric, claim.target, evidence)
    than = _arrivals(claim.than, seeds, other, goal, evidence)
    names = (claim.arm, claim.than)
    if (other, goal) == (metric, claim.target):
        quantity = f"ratio of the steps to {metric.curve}={claim.target:g}, {claim.arm} over {claim.than}"
    else:
        names = (f"{claim.arm} to {metric.curve}={claim.target:g}", f"{claim.than} to {other.curve}={goal:g}")
        quantity = f"ratio of the steps of {names[0]} over those of {names[1]}"
    if arm is None or than is None:
        return undecided(claim, quantity, "There are no curves of the same seeds for both arms.")
    ratio = steps_ratio(arm, than)
    low, high = ratio.interval
    late = [f"{int((~each.arrived).sum())} of {name}" for name, each in zip(names, (arm, than), strict=True)]
    outcome = where(ratio.interval, 0.0, claim.ratio_at_most)
    return concluded(
        claim,
        evidence,
        outcome,
        quantity,
        estimated(ratio, arm.steps.size),
        f"Over {formatting.count(arm.steps.size, 'paired seed')}, the {quantity}, is {ratio.value:.3g} "
        f"(95% interval [{low:.3g}, {high:.3g}]); never arrived: {formatting.listed(late)}. "
        f"Claimed: at most {claim.ratio_at_most:.3g}.",
        censored=True,
    )


def _arrivals(arm: str, seeds: list[int], metric: Metric, target: float, evidence: Evidence) -> Arrivals | None:
    """When the seeds of an arm reached the target; those that failed never did. None without curves.

    A seed that crashed before its first evaluation has no curve and stays in as one that never arrives.
    """
    curves = evidence.curves
    if curves is None or metric.curve not in curves:
        return None
    mine = curves[curves["arm"] == arm].drop_duplicates(["seed", "step"], keep="last")
    table = mine.pivot(index="seed", columns="step", values=metric.curve)
    if table.empty:
        return None
    table = table.reindex(seeds)
    steps, values = table.columns.to_numpy(np.float64), table.to_numpy(np.float64)
    return steps_to_target(steps, values, target, higher_is_better=metric.higher_is_better)


_JUDGES: Mapping[type, Callable[..., Verdict]] = {
    BatchTradeoff: sweeps.batch_tradeoff,
    Equivalent: _equivalent,
    Exponent: _exponent,
    Interaction: _interaction,
    LessSensitive: sweeps.less_sensitive,
    Monotone: _monotone,
    Ratio: _ratio,
    SteadierOptimum: sweeps.steadier_optimum,
    StepsToTarget: _steps_to_target,
    Within: _within,
}
