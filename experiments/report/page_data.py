"""What the page's script works on: curves, trials, differences and commands, as one JSON text."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from experiments import statistics
from experiments.report.rerun import rerun
from experiments.report.summary import Summary
from train.config import differences

MOST_NUMBERS = 120_000
"""About how many numbers the curves may take; each is some seven bytes of the file."""

MOST_POINTS, FEWEST_POINTS = 300, 40
"""Points of a curve: more than the first cannot be seen, and below the second seeds are left out instead."""


def page_data(summary: Summary, curves: pd.DataFrame) -> str:
    """The JSON text, fit to stand inside ``<script type="application/json">``.

    Args:
        summary: the study's result.
        curves: ``curves.csv``, a row a trial and evaluation.
    """
    metric = summary.study.metric
    document = {
        "baseline": summary.study.baseline_name,
        "metric": {"column": metric.column, "label": metric.label, "percent": metric.percent},
        "command": summary.command,
        "arms": [_arm(summary, row.arm) for row in summary.rows],
        "curves": curve_data(summary, curves),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # No tag or comment may begin inside the element.
    return text.replace("<", "\\u003c")


def _arm(summary: Summary, arm: str) -> dict[str, Any]:
    """One arm: how its configuration differs, how it is made again, and its trials."""
    own, baseline = (summary.configurations.get(name) for name in (arm, summary.study.baseline_name))
    trials = summary.trials[summary.trials["arm"] == arm].sort_values("seed", kind="stable")
    return {
        "name": arm,
        "changes": _changes(baseline, own),
        "command": rerun(summary.command, [arm]),
        "trials": [_trial(summary, trial) for trial in trials.to_dict("records")],
    }


def _changes(baseline: str | None, own: str | None) -> list[str] | None:
    """The differences of two configurations; None where one was not recorded or is not readable."""
    try:
        return differences(json.loads(baseline or ""), json.loads(own or ""))
    except (ValueError, AttributeError):
        return None


def _trial(summary: Summary, trial: dict[Any, Any]) -> dict[str, Any]:
    """One row of ``trials.csv``: what the page shows of it, and how it is made again."""
    step = trial.get("diverged_step")
    return {
        "trial": str(trial["trial"]),
        "seed": int(trial["seed"]),
        "exploratory": int(trial["seed"]) in summary.exploratory_seeds,
        "status": str(trial["status"]),
        "diverged": None if step is None or pd.isna(step) else int(step),
        "value": _number(trial.get(summary.study.metric.column), digits=8),
        "parameters": _number(trial.get("parameters"), digits=12),
        "flops": _number(trial.get("flops_per_step"), digits=4),
        "seconds": _number(trial.get("train_seconds"), digits=4),
        "hash": str(trial.get("config_hash", "")),
        "command": rerun(summary.command, [str(trial["trial"])]),
    }


def curve_data(summary: Summary, curves: pd.DataFrame) -> dict[str, Any]:
    """Every recorded curve of every arm: means, 95% intervals and, where there is room, all seeds.

    ``columns`` names what can be shown, the study's own first, and ``percent`` those that are printed times 100.
    ``arms[arm][column]`` holds ``step``, ``mean``, ``low``, ``high``, ``n`` and ``seeds`` (a list each), numbers to
    five digits, null where there is none.
    """
    arms = [row.arm for row in summary.rows]
    columns = _columns(curves, summary.study.metric.curve)
    lanes = max(1, summary.study.seeds)
    points, seeds = _room(len(arms) * len(columns), lanes)
    found: dict[str, Any] = {}
    for arm in arms:
        rows = curves[curves["arm"] == arm]
        each = {column: _curve(rows, column, points, seeds) for column in columns}
        found[arm] = {column: curve for column, curve in each.items() if curve is not None}
    shown = [column for column in columns if any(column in found[arm] for arm in arms)]
    kind = summary.study.metric.curve.partition("_")[2]
    percent = [column for column in shown if summary.study.metric.percent and column.partition("_")[2] == kind]
    return {"columns": shown, "percent": percent, "seeds": seeds, "arms": found}


def _columns(curves: pd.DataFrame, first: str) -> list[str]:
    """The columns of ``curves`` that are curves: losses and metrics of training and validation."""
    names = [str(name) for name in curves if str(name).startswith(("train_", "validation_"))]
    return [first, *(name for name in names if name != first)]


def _room(number: int, lanes: int) -> tuple[int, bool]:
    """How many points each of ``number`` curves may have, and whether its ``lanes`` seeds fit in, too."""
    if number == 0:
        return MOST_POINTS, True
    with_seeds, without = (MOST_NUMBERS // (number * each) for each in (lanes + 4, 4))
    if with_seeds >= FEWEST_POINTS:
        return min(MOST_POINTS, with_seeds), True
    return max(FEWEST_POINTS, min(MOST_POINTS, without)), False


def _curve(rows: pd.DataFrame, column: str, points: int, seeds: bool) -> dict[str, Any] | None:
    if column not in rows or rows.empty:
        return None
    values = pd.to_numeric(rows[column], errors="coerce").replace([np.inf, -np.inf], np.nan)
    table = rows.assign(value=values).pivot_table(index="step", columns="seed", values="value", aggfunc="last")
    table = table.dropna(how="all").sort_index()
    if table.empty:
        return None
    table = table.iloc[thin(len(table), points)]
    spreads = [statistics.spread(line) for line in table.to_numpy(np.float64)]
    return {
        "step": [int(step) for step in table.index],
        "mean": [_number(each.mean) for each in spreads],
        "low": [_number(each.interval.low) for each in spreads],
        "high": [_number(each.interval.high) for each in spreads],
        "n": [each.n for each in spreads],
        "seeds": {str(seed): [_number(value) for value in table[seed]] for seed in table} if seeds else {},
    }


def thin(length: int, points: int) -> np.ndarray:
    """At most ``points`` places among ``length``: evenly and evenly in their logarithm, ends among them.

    So a curve keeps its shape on a linear axis and on a logarithmic one.
    """
    if length <= points:
        return np.arange(length)
    half = points // 2
    even = np.linspace(0, length - 1, points - half)
    logarithmic = np.geomspace(1, length, half) - 1
    return np.unique(np.round(np.concatenate([even, logarithmic])).astype(int))


def _number(value: Any, *, digits: int = 5) -> float | None:
    """A finite number to so many digits; None for anything else."""
    number = float("nan") if value is None else float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None
