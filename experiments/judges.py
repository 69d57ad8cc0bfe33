"""How each kind of claim is judged, but for the comparison of two arms (see ``experiments.claims``).

A judge takes the claim and the evidence and gives the verdict. What it says must follow from an interval.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from experiments import formatting, statistics
from experiments.statements import Claim, Equivalent, Interaction, Metric, Monotone, Within
from experiments.statistics import CONFIDENCE, Spread
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
    claim: Claim, evidence: Evidence, outcome: Outcome, quantity: str, spread: Spread, *sentences: str
) -> Verdict:
    """The verdict once it is counted what failed and how little one seed says."""
    reasons = [_REASONS[outcome]]
    failed = evidence.failed(claim)
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
    contrast = (table[claim.both] - table[claim.second]) - (table[claim.first] - table[claim.neither])
    spread = statistics.spread(contrast.to_numpy(np.float64))
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


def _monotone(claim: Monotone, evidence: Evidence) -> Verdict:
    table, metric = evidence.table(claim), evidence.metric(claim)
    values = table[list(claim.order)].to_numpy(np.float64)
    ranks = np.arange(len(claim.order)) - (len(claim.order) - 1) / 2
    slopes = values @ ranks / (ranks @ ranks)  # least squares over the ranks, seed by seed
    spread = statistics.spread(slopes)
    low, high = _side(claim.direction == "rising")
    outcome = where(spread.interval, low, high)
    level = 1 - (1 - CONFIDENCE) / (len(claim.order) - 1)
    steps = np.diff(values, axis=1)
    intervals = [statistics.mean_interval(step[np.isfinite(step)], confidence=level) for step in steps.T]
    against = [
        f"{claim.order[i]} to {claim.order[i + 1]}"
        for i, interval in enumerate(intervals)
        if where(interval, low, high) == "refuted"
    ]
    quantity = f"change of {metric.label} per step"
    sentences = [_measured(f"{quantity} along {', '.join(claim.order)}", spread, metric, signed=True)]
    if against:
        outcome = "refuted"
        sentences.append(f"The step from {formatting.listed(against)} goes the other way beyond chance.")
    return _verdict(claim, evidence, outcome, quantity, spread, *sentences)


def _side(positive: bool) -> tuple[float, float]:
    """The open half line: an interval that touches zero is on neither side."""
    return (math.nextafter(0, 1), math.inf) if positive else (-math.inf, math.nextafter(0, -1))


_JUDGES: Mapping[type, Callable[..., Verdict]] = {
    Equivalent: _equivalent,
    Interaction: _interaction,
    Monotone: _monotone,
    Within: _within,
}
