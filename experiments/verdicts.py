"""What a verdict is, and what decides it: where an interval lies."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from experiments.comparisons import Comparison, results
from experiments.statements import Claim, Metric
from experiments.statistics import Interval
from experiments.study import Study

Outcome = Literal["supported", "refuted", "inconclusive"]

SMOKE = "no evidence: smoke preset"


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
