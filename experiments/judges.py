"""How each kind of claim is judged, but for the comparison of two arms (see ``experiments.claims``).

A judge takes the claim and the evidence and gives the verdict. What it says must follow from an interval.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from experiments import formatting, statistics
from experiments.statements import (
    BatchTradeoff,
    Claim,
    Equivalent,
    Exponent,
    Interaction,
    LessSensitive,
    Levels,
    Metric,
    Monotone,
    Ratio,
    SteadierOptimum,
    StepsToTarget,
    Within,
)
from experiments.statistics import Estimate, Interval, Spread
from experiments.statistics.batches import fit_tradeoff
from experiments.statistics.optima import Condition, Move, steadiness
from experiments.statistics.reaching import Arrivals, steps_ratio, steps_to_target
from experiments.statistics.scaling import check_held_out, fit_power_law
from experiments.verdicts import Evidence, Outcome, Verdict, where

_REASONS = {
    "supported": "The whole interval agrees with the claim: chance is an unlikely cause.",
    "refuted": "The whole interval contradicts the claim.",
    "inconclusive": "The interval allows either answer.",
}


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """The verdict on a claim that is not a comparison of two arms."""
    return _JUDGES[type(claim)](claim, evidence)


def _verdict(
    claim: Claim,
    evidence: Evidence,
    outcome: Outcome,
    quantity: str,
    spread: Spread,
    *sentences: str,
    censored: bool = False,
) -> Verdict:
    """The verdict once it is counted what failed and how little one seed says.

    Args:
        claim: what was claimed.
        evidence: what it is judged by.
        outcome: by the interval alone.
        quantity: what was estimated.
        spread: the estimate, its interval and the number of seeds.
        sentences: what was found.
        censored: whether the estimate itself counts trials that failed.
    """
    reasons = [_REASONS[outcome]]
    failed = 0 if censored else evidence.failed(claim)
    if spread.n < 2:
        outcome = "inconclusive"
        reasons = [f"{formatting.count(spread.n, 'complete seed')} says nothing about chance: more seeds are needed."]
    elif failed:
        what = formatting.count(failed, "trial")
        reasons = [f"{what} diverged or crashed and cannot be left out of such a claim."]
        if outcome != "inconclusive":
            reasons.append(f"Those that finished would have it {outcome}.")
        outcome = "inconclusive"
    return Verdict(
        claim=claim,
        outcome=outcome,
        quantity=quantity,
        estimate=spread.mean,
        interval=spread.interval,
        p_value=math.nan,
        n=spread.n,
        explanation=" ".join([*sentences, *reasons]),
    )


def _measured(quantity: str, spread: Spread, metric: Metric, *, signed: bool) -> str:
    value = formatting.metric_number(spread.mean, metric, signed=signed)
    unit = "" if not metric.percent else " percentage points" if signed else "%"
    interval = formatting.metric_interval(spread.interval, metric, signed=signed)
    seeds = formatting.count(spread.n, "seed")
    return f"Over {seeds}, the {quantity} is {value}{unit} (95% interval {interval})."


def _equivalent(claim: Equivalent, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    difference = statistics.paired_difference(table[claim.arm].to_numpy(), table[claim.than].to_numpy())
    quantity = f"mean difference of {metric.label}, {claim.arm} minus {claim.than},"
    margin = formatting.metric_difference(claim.margin, metric)
    return _verdict(
        claim,
        evidence,
        where(difference.interval, -claim.margin, claim.margin),
        quantity.removesuffix(","),
        difference,
        _measured(quantity, difference, metric, signed=True),
        f"Equal means: less than {margin} apart.",
    )


def _ratio(claim: Ratio, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    quantity = f"ratio of {metric.label}, {claim.arm} over {claim.than}"
    pairs = table.to_numpy(np.float64)
    if (pairs <= 0).any():
        return _unknown(claim, quantity, f"Ratios need positive numbers, and some {metric.label} is not.")
    logarithms = statistics.paired_difference(*np.log(pairs.T))
    low, high = (math.exp(end) for end in logarithms.interval)
    ratio = dataclasses.replace(logarithms, mean=math.exp(logarithms.mean), interval=statistics.Interval(low, high))
    return _verdict(
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
    ends = [formatting.metric_number(end, metric) for end in (claim.low, claim.high)]
    band = (
        f"at most {ends[1]}"
        if math.isinf(claim.low)
        else f"at least {ends[0]}"
        if math.isinf(claim.high)
        else f"from {ends[0]} to {ends[1]}"
    )
    return _verdict(
        claim,
        evidence,
        where(spread.interval, claim.low, claim.high),
        quantity,
        spread,
        _measured(quantity, spread, metric, signed=False),
        f"Claimed: {band}{'%' if metric.percent else ''}.",
    )


def _interaction(claim: Interaction, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    arms = (claim.neither, claim.first, claim.second, claim.both)
    spread = statistics.interaction(*(table[arm].to_numpy(np.float64) for arm in arms)).contrast
    rises = (claim.sign == "more") == metric.higher_is_better
    quantity = f"interaction in {metric.label}"
    formula = f"({claim.both} - {claim.second}) - ({claim.first} - {claim.neither})"
    return _verdict(
        claim,
        evidence,
        where(spread.interval, *_side(rises)),
        quantity,
        spread,
        _measured(f"{quantity}, {formula},", spread, metric, signed=True),
        f"Together {claim.sign} than the sum of both means {'above' if rises else 'below'} 0.",
    )


def _less_sensitive(claim: LessSensitive, evidence: Evidence) -> Verdict:
    metric, ran = evidence.metric(claim), evidence.trials
    seeds = sorted(set.intersection(*(set(ran.loc[ran["arm"] == arm, "seed"]) for arm in claim.arms)))
    table = evidence.table(claim).reindex(seeds)
    steady, other = (_sensitivity(table[list(arms)].to_numpy(np.float64), claim.worst, metric) for arms in claim.groups)
    spread = statistics.spread(steady - claim.ratio_at_most * other)
    means = [formatting.metric_number(statistics.spread(each).mean, metric) for each in (steady, other)]
    quantity = f"sensitivity of {claim.group[0]} and its group minus {claim.ratio_at_most:g} times that of the other"
    return _verdict(
        claim,
        evidence,
        where(spread.interval, -math.inf, 0.0),
        quantity,
        spread,
        _measured(quantity, spread, metric, signed=True),
        f"Mean sensitivities: {means[0]} and {means[1]}.",
        censored=True,
    )


def _sensitivity(values: np.ndarray, worst: float, metric: Metric) -> np.ndarray:
    """What the arms (columns) lose on average against the best of them, for each seed (rows); NaN where all failed."""
    sign = -1.0 if metric.higher_is_better else 1.0
    loss = np.minimum(np.where(np.isfinite(values), sign * values, np.inf), sign * worst)
    lost = np.mean(loss, axis=1) - np.min(loss, axis=1)
    return np.where(np.isfinite(values).any(axis=1), lost, np.nan)


def _monotone(claim: Monotone, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    found = statistics.trend(table[list(claim.order)].to_numpy(np.float64))
    spread, rising = found.slope, claim.direction == "rising"
    outcome = where(spread.interval, *_side(rising))
    against = [f"{claim.order[i]} to {claim.order[i + 1]}" for i in (found.falls if rising else found.rises)]
    quantity = f"change of {metric.label} per step"
    sentences = [_measured(f"{quantity} along {', '.join(claim.order)}", spread, metric, signed=True)]
    if against:
        outcome = "refuted"
        sentences.append(f"The step from {formatting.listed(against)} goes the other way beyond chance.")
    return _verdict(claim, evidence, outcome, quantity, spread, *sentences)


def _exponent(claim: Exponent, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    sizes = np.array([size for _, size in claim.sizes], np.float64)
    values = table.to_numpy(np.float64)
    seeds = int(np.isfinite(values).all(axis=1).sum())
    quantity = f"exponent b of {metric.label} = a size^-b"
    try:
        fitted = fit_power_law(sizes, values).exponent
    except ValueError as error:
        return _unknown(claim, quantity, f"No power law can be fitted: {error}.")
    low, high = fitted.interval
    return _verdict(
        claim,
        evidence,
        where(fitted.interval, claim.low, claim.high),
        quantity,
        _estimated(fitted, seeds),
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
        return _unknown(claim, quantity, "There are no curves of the same seeds for both arms.")
    ratio = steps_ratio(arm, than)
    low, high = ratio.interval
    late = [f"{int((~each.arrived).sum())} of {name}" for name, each in zip(names, (arm, than), strict=True)]
    outcome = where(ratio.interval, 0.0, claim.ratio_at_most)
    return _verdict(
        claim,
        evidence,
        outcome,
        quantity,
        _estimated(ratio, arm.steps.size),
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


def _steadier_optimum(claim: SteadierOptimum, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim).dropna(), evidence.metric(claim)
    quantity = "difference of the moves of the best level, in decades"
    if table.empty:
        return _unknown(claim, quantity, "No seed finished in all arms.")
    sign = -1.0 if metric.higher_is_better else 1.0

    def move(family: tuple[Levels, Levels]) -> Move:
        return Move(
            *(
                Condition(
                    np.array([level for _, level in levels], np.float64),
                    sign * table[[arm for arm, _ in levels]].to_numpy(np.float64),
                )
                for levels in family
            )
        )

    def best(family: tuple[Levels, Levels]) -> str:
        found = [each.levels[each.values.mean(axis=0).argmin()] for each in move(family)]
        return f"from {found[0]:.3g} to {found[1]:.3g}"

    moved = steadiness(move(claim.steady), move(claim.moving))
    low, high = moved.interval
    return _verdict(
        claim,
        evidence,
        where(moved.interval, *_side(positive=True)),
        quantity,
        _estimated(moved, len(table)),
        f"Over {formatting.count(len(table), 'seed')}, the best level moves {best(claim.steady)} where it is claimed "
        f"to be steadier, and {best(claim.moving)} in the other family: {moved.value:.3g} decades more (95% interval "
        f"[{low:.3g}, {high:.3g}]).",
    )


def _batch_tradeoff(claim: BatchTradeoff, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    steps = table[[arm for arm, _ in claim.batches]].dropna().to_numpy(np.float64)
    quantity = "R^2 of the law of steps and examples"
    if claim.noise_of is not None:
        quantity = f"ratio of the critical batch to the gradient noise scale of {claim.noise_of}"
    try:
        fitted = fit_tradeoff(np.array([size for _, size in claim.batches], np.float64), steps)
    except ValueError as error:
        return _unknown(claim, quantity, f"The law cannot be fitted: {error}.")
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
            return _unknown(claim, quantity, f"No trial of {claim.noise_of} has its noise scale measured.")
        # The ratio of the means: a mean of ratios is biased.
        noise = float(trials[columns[0]].mean() / trials[columns[1]].mean())
        found = Estimate(critical / noise, Interval(least / noise, most / noise))
        sentences.append(f" and the noise scale {noise:.3g}")
    low, high = found.interval
    return _verdict(
        claim,
        evidence,
        where(found.interval, claim.low, claim.high),
        quantity,
        _estimated(found, len(steps)),
        f"{''.join(sentences)}; the {quantity} is {found.value:.3g} (95% interval [{low:.3g}, {high:.3g}]).",
        f"Claimed: from {claim.low:g} to {claim.high:g}.",
    )


def _estimated(estimate: Estimate, seeds: int) -> Spread:
    """An estimate that is no mean, in the form in which verdicts take one."""
    return dataclasses.replace(statistics.spread(np.zeros(0)), n=seeds, mean=estimate.value, interval=estimate.interval)


def _unknown(claim: Claim, quantity: str, reason: str) -> Verdict:
    return Verdict(
        claim=claim,
        outcome="inconclusive",
        quantity=quantity,
        estimate=math.nan,
        interval=statistics.UNKNOWN,
        p_value=math.nan,
        n=0,
        explanation=reason,
    )


def _side(positive: bool) -> tuple[float, float]:
    """The open half line: an interval that touches zero is on neither side."""
    return (math.nextafter(0, 1), math.inf) if positive else (-math.inf, math.nextafter(0, -1))


_JUDGES: Mapping[type, Callable[..., Verdict]] = {
    BatchTradeoff: _batch_tradeoff,
    Equivalent: _equivalent,
    Exponent: _exponent,
    Interaction: _interaction,
    LessSensitive: _less_sensitive,
    Monotone: _monotone,
    Ratio: _ratio,
    SteadierOptimum: _steadier_optimum,
    StepsToTarget: _steps_to_target,
    Within: _within,
}
