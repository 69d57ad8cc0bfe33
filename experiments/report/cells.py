"""The cells of a report's table, the same ones in every medium, and how to read them."""

import math
from typing import NamedTuple

from experiments import formatting
from experiments.comparisons import Comparison
from experiments.report.cautions import unfinished
from experiments.report.rows import Row, UntrainedRow
from experiments.report.summary import Summary
from experiments.report.tuned import Tuned
from experiments.study import Metric


DAGGER = "\N{DAGGER}"
"""Marks an arm that came after the study was registered."""


class Cell(NamedTuple):
    """One cell: what is read first, and below it its interval, spread or what is missing."""

    text: str
    detail: str = ""


def headings(summary: Summary) -> tuple[Cell, ...]:
    """The column headings; a detail carries the unit."""
    metric = summary.study.metric
    return (
        Cell("arm"),
        Cell("n"),
        Cell(metric.label, "%" if metric.percent else ""),
        Cell(
            "difference",
            f"to {summary.study.baseline_name}, points" if metric.percent else f"to {summary.study.baseline_name}",
        ),
        Cell("p", "Holm"),
        Cell("P(better)"),
        Cell("parameters"),
        Cell("FLOPs", "per step"),
        Cell("training", "s"),
    )


def cells(row: Row, metric: Metric) -> tuple[Cell, ...]:
    """One arm's cells, in the order of :func:`headings`."""
    spread, comparison = row.metric, row.comparison
    measured = (
        Cell(f"{row.arm} {DAGGER}" if row.exploratory else row.arm, _edges(row)),
        Cell(str(spread.n), ", ".join(unfinished(row))),
        Cell(
            formatting.metric_mean(spread.mean, spread.sd, metric),
            _if_any(formatting.metric_interval(spread.interval, metric)),
        ),
    )
    cost = (
        Cell(formatting.si(row.parameters)),
        Cell(formatting.si(row.flops_per_step)),
        Cell(*formatting.seconds(row.train_seconds.mean, row.train_seconds.sd)),
    )
    return measured + _compared(comparison, metric) + cost


def _edges(row: Row) -> str:
    """Which tuned values are at the edge of their space, by the last part of their paths."""
    return f"best {', '.join(path.rpartition('.')[2] for path in row.edges)} at the edge" if row.edges else ""


def untrained_cells(row: UntrainedRow, metric: Metric) -> tuple[Cell, ...]:
    """The cells of a prediction without training: its value, and nothing that comes from seeds."""
    absent = Cell(formatting.ABSENT)
    detail = f"no training; data of {formatting.listed(list(row.arms))}" if row.arms else "no training"
    return (Cell(row.name, detail), absent, Cell(formatting.metric_number(row.value, metric)), *[absent] * 6)


def _compared(comparison: Comparison | None, metric: Metric) -> tuple[Cell, ...]:
    if comparison is None:
        return (Cell(formatting.ABSENT),) * 3
    difference, superiority = comparison.difference, comparison.superiority
    interval = superiority.interval
    return (
        Cell(
            formatting.metric_number(difference.mean, metric, signed=True),
            _if_any(formatting.metric_interval(difference.interval, metric, signed=True)),
        ),
        Cell(formatting.p_value(comparison.p_value))
        if comparison.testable
        else Cell("no test", f"n < {comparison.pairs_needed}"),
        Cell(
            formatting.probability(superiority.probability),
            _if_any(f"[{interval.low:.2f}, {interval.high:.2f}]" if math.isfinite(interval.low) else formatting.ABSENT),
        ),
    )


def _if_any(text: str) -> str:
    return "" if text == formatting.ABSENT else text


def legend(summary: Summary) -> tuple[str, ...]:
    """How to read the table, a sentence each."""
    metric = summary.study.metric
    direction = "higher" if metric.higher_is_better else "lower"
    lines = [
        f"{metric.label[0].upper()}{metric.label[1:]}: mean ± standard deviation over seeds, {direction} is better; "
        "in brackets, 95% intervals (Student t; not corrected for the number of comparisons)."
    ]
    if summary.untrained:
        lines.append("Rows without training: predictions that learn nothing, measured as the models are.")
    if summary.family:
        lines.append(
            f"Difference: arm minus {summary.study.baseline_name}, paired by seed. p: two-sided sign-flip test, Holm "
            f"correction over {formatting.count(summary.family, 'comparison')}. P(better): chance that a run of the "
            f"arm is better than an independent run of {summary.study.baseline_name}, ties counted half."
        )
        lines.append(f"Bold: better than {summary.study.baseline_name} with corrected p < 0.05.")
    if summary.registration is not None:
        registered = f"Registered before the first step, {summary.registration.time}, as {summary.registration.digest}"
        marked = f"; {DAGGER}: arm added after that, exploratory" if summary.exploratory else ""
        lines.append(f"{registered}{marked}.")
    if summary.tuned is not None:
        lines.append(_tuning(summary.tuned))
    return (*lines, *summary.notes)


def _tuning(tuned: Tuned) -> str:
    """How the arms were tuned, in a sentence."""
    trials = sorted({winner.trials for winner in tuned.winners.values()})
    each = formatting.count(trials[0], "setting") if len(trials) == 1 else f"{trials[0]} to {trials[-1]} settings"
    pruned = "" if tuned.pruning == "none" else f", hopeless ones stopped early ({tuned.pruning})"
    return (
        f"Each arm was tuned over {each} ({tuned.search} search; {formatting.count(tuned.seeds, 'seed')} and "
        f"{formatting.count(tuned.steps, 'step')} each{pruned}); the best {tuned.column.replace('_', ' ')} was run "
        "again on fresh seeds, and only those count here."
    )
