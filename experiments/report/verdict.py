"""``verdict.json``: the verdict and every number of the table, for programs."""

import dataclasses
import json
import math
from typing import Any

from experiments.comparisons import Comparison
from experiments.report import sources
from experiments.report.legend import TESTS
from experiments.report.rows import Row
from experiments.report.summary import Summary
from experiments.report.tuned import Tuned
from experiments.statistics import CONFIDENCE, LEVEL, Equivalence, Spread
from experiments.verdicts import Verdict


def verdict_json(summary: Summary) -> str:
    """The JSON text. Absent numbers are null; differences are ``arm - than`` in the metric's units."""
    study = summary.study
    document = {
        "study": study.name,
        "preset": study.preset,
        "evidence": study.preset != "smoke",
        "command": summary.command,
        "metric": {
            "column": study.metric.column,
            "label": study.metric.label,
            "higher_is_better": study.metric.higher_is_better,
        },
        "baseline": study.baseline_name,
        "seeds": study.seeds,
        "confidence": CONFIDENCE,
        "level": LEVEL,
        "test": f"two-sided paired {TESTS[study.test]} test, Holm correction",
        "comparisons": summary.family,
        "registration": None if summary.registration is None else dataclasses.asdict(summary.registration),
        "exploratory_seeds": list(summary.exploratory_seeds),
        "tuning": None if summary.tuned is None else _tuning(summary.tuned),
        "claims": [_claim(verdict, summary) for verdict in summary.verdicts],
        "arms": [_arm(row) for row in summary.rows],
        "untrained": [{"name": row.name, "arms": list(row.arms), "value": row.value} for row in summary.untrained],
        "recommendation": None if summary.recommendation is None else dataclasses.asdict(summary.recommendation),
        "variance": sources.document(summary.sources),
        "failures": [vars(failure) for failure in summary.failures],
        "cautions": list(summary.cautions),
        "provenance": {name: list(values) for name, values in summary.provenance.items()},
        "data": {name: list(values) for name, values in summary.data.items()},
    }
    return json.dumps(finite_json(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _claim(verdict: Verdict, summary: Summary) -> dict[str, Any]:
    return {
        "kind": type(verdict.claim).__name__,
        "outcome": verdict.outcome,
        "exploratory": summary.is_exploratory(verdict),
        "quantity": verdict.quantity,
        "estimate": verdict.estimate,
        "interval": list(verdict.interval),
        "p_value": verdict.p_value,
        "n": verdict.n,
        "explanation": verdict.explanation,
        **{name: value for name, value in verdict.claim.to_dict().items() if name not in ("kind", "metric")},
        **verdict.details,
        "comparison": None if verdict.comparison is None else _comparison(verdict.comparison),
    }


def _arm(row: Row) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "metric": _spread(row.metric),
        "diverged": row.diverged,
        "crashed": row.crashed,
        "missing": row.missing,
        "exploratory": row.exploratory,
        "tuned_at_edge": list(row.edges),
        "comparison": None if row.comparison is None else _comparison(row.comparison),
        "better": row.bold,
        "parameters": int(row.parameters) if math.isfinite(row.parameters) else None,
        "flops_per_step": row.flops_per_step,
        "train_seconds": _spread(row.train_seconds),
        "curve_area": None if row.curve_area is None else _spread(row.curve_area),
        "latency_ms": None if row.latency is None else _spread(row.latency),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "than": comparison.than,
        "difference": _spread(comparison.difference),
        "effect": {"value": comparison.effect.value, "interval": list(comparison.effect.interval)},
        "test": comparison.test,
        "p_value_uncorrected": comparison.raw_p_value,
        "p_value": comparison.p_value,
        "smallest_p_value": comparison.smallest_p_value,
        "testable": comparison.testable,
        "too_few": comparison.too_few or None,
        "p_better": comparison.superiority.probability,
        "p_better_interval": list(comparison.superiority.interval),
        "seeds_needed": comparison.seeds_needed,
        "equivalence": None if comparison.equivalence is None else _equivalence(comparison.equivalence),
    }


def _equivalence(equivalence: Equivalence) -> dict[str, Any]:
    return {
        "margin": equivalence.margin,
        "p_value": equivalence.p_value,
        "interval": list(equivalence.interval),
        "equivalent": equivalence.equivalent,
    }


def _tuning(tuned: Tuned) -> dict[str, Any]:
    return {
        "column": tuned.column,
        "search": tuned.search,
        "pruning": tuned.pruning,
        "steps": tuned.steps,
        "seeds": tuned.seeds,
        "arms": {arm: dataclasses.asdict(winner) for arm, winner in tuned.winners.items()},
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "n": spread.n,
        "lost": spread.lost,
        "mean": spread.mean,
        "sd": spread.sd,
        "interval": list(spread.interval),
        "min": spread.minimum,
        "max": spread.maximum,
    }


def finite_json(value: Any) -> Any:
    """The same document with null for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
