"""The cells of a report's table, the same ones in every medium, and how to read them."""

import math
from collections.abc import Callable
from typing import NamedTuple

from experiments import formatting
from experiments.comparisons import Comparison
from experiments.report.cautions import unfinished
from experiments.report.rows import Row, UntrainedRow
from experiments.report.summary import Summary
from experiments.statistics import LEVEL, Interval, Spread
from experiments.study import Study

DAGGER = "\N{DAGGER}"
"""Marks an arm that came after the study was registered."""


class Cell(NamedTuple):
    """One cell: what is read first, below it its interval, spread or what is missing, and by what it is sorted."""

    text: str
    detail: str = ""
    value: float | str | None = None


def headings(summary: Summary) -> tuple[Cell, ...]:
    """The column headings; a detail carries the unit."""
    study = summary.study
    metric, margin = study.metric, study.equivalence_margin
    return (
        Cell("arm"),
        Cell("n"),
        Cell(metric.label, "%" if metric.percent else ""),
        Cell(
            "difference",
            f"to {study.baseline_name}, points" if metric.percent else f"to {study.baseline_name}",
        ),
        Cell("effect", "SDs"),
        Cell("p", "Holm"),
        Cell("P(better)"),
        *([Cell("equal?", f"± {formatting.metric_number(margin, metric)}")] if margin is not None else []),
        Cell("parameters"),
        Cell("FLOPs", "per step"),
        Cell("training", "s"),
        *([Cell("latency", "ms")] if study.recommends else []),
    )


def cells(row: Row, study: Study) -> tuple[Cell, ...]:
    """One arm's cells, in the order of :func:`headings`."""
    spread, comparison, metric = row.metric, row.comparison, study.metric
    measured = (
        Cell(f"{row.arm} {DAGGER}" if row.exploratory else row.arm, _marks(row, study), row.arm),
        Cell(str(spread.n), ", ".join(unfinished(row)), spread.n),
        Cell(
            formatting.metric_mean(spread.mean, spread.sd, metric),
            _if_any(formatting.metric_interval(spread.interval, metric)),
            spread.mean,
        ),
    )
    cost = (
        Cell(formatting.si(row.parameters), value=row.parameters),
        Cell(formatting.si(row.flops_per_step), value=row.flops_per_step),
        Cell(*formatting.seconds(row.train_seconds.mean, row.train_seconds.sd), row.train_seconds.mean),
        *([_latency(row.latency)] if study.recommends else []),
    )
    compared = (
        (Cell(formatting.ABSENT),) * _compared_columns(study) if comparison is None else _compared(comparison, study)
    )
    return measured + compared + cost


def _marks(row: Row, study: Study) -> str:
    """What sets an arm apart: it is the baseline again, or tuned values are at the edge of their space."""
    marks = ["A/A"] if row.arm == study.again else []
    # The last part of a path is enough to know the field by.
    marks += [f"edge: {', '.join(path.rpartition('.')[2] for path in row.edges)}"] if row.edges else []
    return "; ".join(marks)


def untrained_cells(row: UntrainedRow, study: Study) -> tuple[Cell, ...]:
    """The cells of a prediction without training: its value, and nothing that comes from seeds."""
    absent = Cell(formatting.ABSENT)
    detail = f"no training; data of {formatting.listed(list(row.arms))}" if row.arms else "no training"
    value = Cell(formatting.metric_number(row.value, study.metric), value=row.value)
    costs = 4 if study.recommends else 3
    return (Cell(row.name, detail, row.name), absent, value, *[absent] * (_compared_columns(study) + costs))


def _latency(spread: Spread | None) -> Cell:
    """Milliseconds for one example, with their interval."""
    if spread is None:
        return Cell(formatting.ABSENT)
    return Cell(f"{spread.mean:.3g}", _range(spread.interval, lambda value: f"{value:.3g}"), spread.mean)


def _compared_columns(study: Study) -> int:
    """Columns that compare with the baseline."""
    return 4 if study.equivalence_margin is None else 5


def _compared(comparison: Comparison, study: Study) -> tuple[Cell, ...]:
    difference, superiority, effect = comparison.difference, comparison.superiority, comparison.effect
    measured = (
        Cell(
            formatting.metric_number(difference.mean, study.metric, signed=True),
            _if_any(formatting.metric_interval(difference.interval, study.metric, signed=True)),
            difference.mean,
        ),
        Cell(formatting.effect(effect.value), _range(effect.interval, formatting.effect), effect.value),
        Cell(formatting.p_value(comparison.p_value), needs(comparison), comparison.p_value)
        if comparison.testable
        else Cell("no test", f"n < {comparison.pairs_needed}"),
        Cell(
            formatting.probability(superiority.probability),
            _range(superiority.interval, formatting.probability),
            superiority.probability,
        ),
    )
    equivalence = comparison.equivalence
    if equivalence is None:
        return measured
    interval = _if_any(formatting.metric_interval(equivalence.interval, study.metric, signed=True))
    return (*measured, Cell("yes" if equivalence.equivalent else "not shown", interval, equivalence.p_value))


def needs(comparison: Comparison) -> str:
    """With how many seeds the difference would be found, where it was not."""
    needed = comparison.seeds_needed
    if comparison.p_value < LEVEL or math.isnan(needed):
        return ""
    return f"needs n = {needed:.0f}" if math.isfinite(needed) else "out of reach"


def _range(interval: Interval, form: Callable[[float], str]) -> str:
    return f"[{form(interval.low)}, {form(interval.high)}]" if math.isfinite(interval.low) else ""


def _if_any(text: str) -> str:
    return "" if text == formatting.ABSENT else text
