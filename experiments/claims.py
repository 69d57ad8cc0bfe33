"""What a study says of each published claim: supported, refuted or inconclusive.

Decided from confidence intervals and corrected tests, never from point estimates.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from experiments import formatting
from experiments.comparisons import Comparison, Family, compare
from experiments.judges import judge
from experiments.metric import Metric
from experiments.statements import Better
from experiments.statistics import LEVEL
from experiments.study import Study
from experiments.verdicts import SMOKE, Evidence, Outcome, Verdict


def evaluate(
    study: Study, trials: pd.DataFrame, family: Family | None = None, curves: pd.DataFrame | None = None
) -> tuple[Verdict, ...]:
    """The verdict on each claim of ``study``, in its order.

    Args:
        study: the declaration.
        trials: the records, a row a trial.
        family: the study's comparisons, where they are already known.
        curves: the records, a row a trial and evaluation, for claims on how a metric develops.
    """
    evidence = Evidence(study, trials, curves)
    families = {study.metric: family or compare(study, trials)}
    verdicts = []
    for claim in study.claims:
        if isinstance(claim, Better):
            metric = evidence.metric(claim)
            if metric not in families:
                # A metric of its own is a family of its own: the claims on it.
                families[metric] = compare(_on(study, metric), trials, claims_alone=True)
            verdict = _better(claim, evidence, families[metric])
        else:
            verdict = judge(claim, evidence)
        verdicts.append(_without_evidence(verdict) if study.preset == "smoke" else verdict)
    return tuple(verdicts)


def _on(study: Study, metric: Metric) -> Study:
    """The study as its claims on another metric see it."""
    claims = tuple(claim for claim in study.claims if claim.metric == metric)
    return dataclasses.replace(study, metric=metric, claims=claims)


def _without_evidence(verdict: Verdict) -> Verdict:
    """A few seconds of training say nothing, whatever their interval."""
    explanation = f"{SMOKE[0].upper()}{SMOKE[1:]}. {verdict.explanation}"
    return dataclasses.replace(verdict, outcome="inconclusive", explanation=explanation)


def _better(claim: Better, evidence: Evidence, family: Family) -> Verdict:
    metric = evidence.metric(claim)
    comparison = family.between(claim.arm, claim.than, claim.margin)
    outcome, reason = _judge(comparison, metric)
    sentences = [_finding(comparison, metric), reason, _left_out(comparison)]
    details: dict[str, Any] = {"margin": claim.margin}
    if claim.parameters_at_most is not None:
        ratio = _parameter_ratio(evidence.trials, claim)
        outcome, sentence = _condition(outcome, claim, ratio)
        sentences.append(sentence)
        details["parameter_ratio"] = ratio
    return Verdict(
        claim=claim,
        outcome=outcome,
        quantity=f"mean difference of {metric.label}, {claim.arm} minus {claim.than}",
        estimate=comparison.difference.mean,
        interval=comparison.difference.interval,
        p_value=comparison.p_value,
        n=comparison.difference.n,
        comparison=comparison,
        details=details,
        explanation=" ".join(sentence for sentence in sentences if sentence),
    )


def _judge(comparison: Comparison, metric: Metric) -> tuple[Outcome, str]:
    """The outcome on the metric alone, and why."""
    low, high = comparison.advantage
    at_margin = f"the claimed margin of {formatting.metric_difference(comparison.margin, metric)}"
    bar = at_margin if comparison.margin else "zero"
    if comparison.difference.n < 2:
        return "inconclusive", "One pair says nothing about chance: more seeds are needed."
    if comparison.better:
        return (
            "supported",
            f"The whole interval is on the claimed side of {bar} and the test agrees: chance is an unlikely cause.",
        )
    if high < comparison.margin:
        if comparison.only_than_failed:
            return "inconclusive", (
                f"The pairs that finished would refute it, but {comparison.than} failed where {comparison.arm} did not."
            )
        if comparison.difference.sd == 0 and not comparison.testable:
            return "inconclusive", "All pairs differ by the same amount, but there are too few of them to rely on that."
        return "refuted", f"The whole interval lies on the wrong side of {bar}."
    if low <= comparison.margin:
        return "inconclusive", f"The interval includes {bar}, so the data agree with either answer."
    if not comparison.testable:
        return "inconclusive", f"{comparison.too_few[0].upper()}{comparison.too_few[1:]}."
    if comparison.p_value < LEVEL:
        return "inconclusive", (
            f"The pairs that finished would support it, but {comparison.arm} failed where {comparison.than} did not."
        )
    return "inconclusive", "The interval is on the claimed side, but the corrected test does not confirm it."


def _finding(comparison: Comparison, metric: Metric) -> str:
    """What was measured, in one sentence."""
    difference = comparison.difference
    if difference.n == 0:
        return f"No seed finished for both {comparison.arm} and {comparison.than}."
    seeds = formatting.count(difference.n, "paired seed")
    if difference.mean == 0:
        start = f"Over {seeds}, the mean {metric.label} of {comparison.arm} and {comparison.than} is the same"
    else:
        word = "higher" if difference.mean > 0 else "lower"
        size = formatting.metric_difference(difference.mean, metric)
        than = f"that of {comparison.than}"
        start = f"Over {seeds}, the mean {metric.label} of {comparison.arm} is {word} than {than} by {size}"
    if difference.n == 1:
        return f"{start}."
    interval = formatting.metric_interval(difference.interval, metric, signed=True)
    detail = f"95% interval of the difference {interval}"
    if comparison.testable:
        family = f", corrected for {comparison.family} comparisons" if comparison.family > 1 else ""
        detail += f"; p = {formatting.p_value(comparison.p_value)}{family}".replace("= <", "<")
    return f"{start} ({detail})."


def _left_out(comparison: Comparison) -> str:
    """The pairs that are not in the difference."""
    lost = comparison.difference.lost
    if not lost:
        return ""
    parts = []
    if comparison.only_arm_failed:
        parts.append(f"{comparison.arm} in {comparison.only_arm_failed}")
    if comparison.only_than_failed:
        parts.append(f"{comparison.than} in {comparison.only_than_failed}")
    both = lost - comparison.only_arm_failed - comparison.only_than_failed
    if both:
        parts.append(f"both in {both}")
    pairs = formatting.count(lost, "pair is", "pairs are")
    return f"{pairs} left out because a trial diverged or crashed ({formatting.listed(parts)})."


def _parameter_ratio(trials: pd.DataFrame, claim: Better) -> float:
    """Parameters of the claim's arm over those of the other; NaN where either is not recorded."""
    counts = [trials.loc[trials["arm"] == name, "parameters"].max() for name in (claim.arm, claim.than)]
    return float(counts[0] / counts[1]) if all(np.isfinite(counts)) and counts[1] > 0 else math.nan


def _condition(outcome: Outcome, claim: Better, ratio: float) -> tuple[Outcome, str]:
    """The outcome once the condition on the numbers of parameters is counted in."""
    limit = claim.parameters_at_most
    if limit is None:
        return outcome, ""
    if math.isnan(ratio):
        return ("refuted" if outcome == "refuted" else "inconclusive"), "The numbers of parameters were not recorded."
    has = f"{claim.arm} has {ratio:.3g} times the parameters of {claim.than}; the claim allows at most {limit:.3g}"
    if ratio <= limit:
        return outcome, f"{has}."
    return "refuted", f"{has}, so the claim does not hold as it was made."
