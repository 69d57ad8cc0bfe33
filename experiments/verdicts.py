"""What a verdict is, and what decides it: where an interval lies."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from experiments import formatting, statistics
from experiments.comparisons import Comparison, results
from experiments.metric import Metric
from experiments.statements import Claim
from experiments.statistics import Estimate, Interval, Spread
from experiments.study import Study

Outcome = Literal["supported", "refuted", "inconclusive"]

SMOKE = "no evidence: smoke preset"

_REASONS = {
    "supported": "The whole interval agrees with the claim: chance is an unlikely cause.",
    "refuted": "The whole interval contradicts the claim.",
    "inconclusive": "The interval allows either answer.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one claim.

    Attributes:
        claim: what was claimed.
        outcome: supported, refuted or inconclusive.
        quantity: what was estimated, in words: ``difference of test accuracy``.
        estimate: its value, in the metric's own units where it has units.
        interval: 95% confidence interval of the estimate.
        p_value: two-sided, corrected over the study's family; NaN where the interval alone decides.
        n: number of seeds behind the estimate.
        explanation: why, in words for a reader who is no statistician.
        comparison: the two arms' comparison, where the claim is one.
        details: further numbers that decided, by name.
    """

    claim: Claim
    outcome: Outcome
    quantity: str
    estimate: float
    interval: Interval
    p_value: float
    n: int
    explanation: str
    comparison: Comparison | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def statement(self) -> str:
        """The claim in words."""
        return self.claim.statement

    @property
    def source(self) -> str:
        """Where it was published."""
        return self.claim.source


class Evidence(NamedTuple):
    """What claims are judged by.

    Attributes:
        study: the declaration.
        trials: a row a trial.
        curves: a row a trial and evaluation; None where only final results are at hand.
    """

    study: Study
    trials: pd.DataFrame
    curves: pd.DataFrame | None

    def metric(self, claim: Claim) -> Metric:
        """What the claim speaks of."""
        return claim.metric or self.study.metric

    def table(self, claim: Claim) -> pd.DataFrame:
        """The claim's metric by seed (rows) and arm (columns); NaN where a trial failed or is missing."""
        found = results(self.trials[self.trials["arm"].isin(claim.arms)], self.metric(claim))
        empty = pd.Series(dtype=np.float64)
        return pd.DataFrame({arm: found.get(arm, empty) for arm in claim.arms}).sort_index()

    def failed(self, claim: Claim) -> int:
        """Trials of the claim's arms that diverged or crashed."""
        last = self.trials.drop_duplicates(["arm", "seed"], keep="last")
        return int((last["arm"].isin(claim.arms) & (last["status"] != "ok")).sum())


def where(interval: Interval, low: float, high: float) -> Outcome:
    """Supported when the whole interval lies from ``low`` to ``high``, refuted when wholly outside."""
    if np.isnan(interval.low) or np.isnan(interval.high):
        return "inconclusive"
    if low <= interval.low and interval.high <= high:
        return "supported"
    return "refuted" if interval.high < low or high < interval.low else "inconclusive"


def concluded(
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


def estimated(estimate: Estimate, seeds: int) -> Spread:
    """An estimate that is no mean, in the form in which verdicts take one."""
    return dataclasses.replace(statistics.spread(np.zeros(0)), n=seeds, mean=estimate.value, interval=estimate.interval)


def undecided(claim: Claim, quantity: str, reason: str) -> Verdict:
    """The verdict where nothing could be estimated."""
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


def band(low: float, high: float, say: Callable[[float], str]) -> str:
    """A claimed band in words; it has at least one end."""
    if math.isinf(low):
        return f"at most {say(high)}"
    return f"at least {say(low)}" if math.isinf(high) else f"from {say(low)} to {say(high)}"


def side(positive: bool) -> tuple[float, float]:
    """The open half line: an interval that touches zero is on neither side."""
    return (math.nextafter(0, 1), math.inf) if positive else (-math.inf, math.nextafter(0, -1))


def measured(quantity: str, spread: Spread, metric: Metric, *, signed: bool) -> str:
    """An estimate and its interval in words."""
    value = formatting.metric_number(spread.mean, metric, signed=signed)
    unit = "" if not metric.percent else " percentage points" if signed else "%"
    interval = formatting.metric_interval(spread.interval, metric, signed=signed)
    seeds = formatting.count(spread.n, "seed")
    return f"Over {seeds}, the {quantity} is {value}{unit} (95% interval {interval})."
