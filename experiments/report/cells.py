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
    """One cell: what is read first, below it its interval, spread or what is missing, and by what it is sorted."""

    text: str
    detail: str = ""
    value: float | str | None = None


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


def origins(summary: Summary) -> tuple[str, ...]:
    """How each column's numbers come about, a sentence or two each, in the order of :func:`headings`."""
    baseline = summary.study.baseline_name
    paired = f"Trials of one seed share data split and data order with the trial of {baseline} of that seed."
    return (
        "One configuration under comparison, run with several seeds.",
        "Seeds whose trial finished. All that is said of the arm's metric rests on these.",
        "Mean and standard deviation over the trials that finished; in brackets a Student-t 95% interval of the mean.",
        f"Mean over the paired seeds of arm minus {baseline}, with a Student-t 95% interval. {paired}",
        f"How often chance alone would make a difference at least this large, were the arm and {baseline} the same. "
        f"Corrected over {formatting.count(summary.family, 'comparison')} by Holm's procedure.",
        f"The share of all pairs of a run of the arm and a run of {baseline} in which the arm's is better. Trials that "
        "diverged or crashed count as worst.",
        "Trained parameters.",
        "Floating-point operations of one training step of one trial, as the compiler counts them.",
        "Seconds on the device that a trial trained for: mean and standard deviation over the finished trials.",
    )


def cells(row: Row, metric: Metric) -> tuple[Cell, ...]:
    """One arm's cells, in the order of :func:`headings`."""
    spread, comparison = row.metric, row.comparison
    measured = (
        Cell(f"{row.arm} {DAGGER}" if row.exploratory else row.arm, _edges(row), row.arm),
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
    )
    return measured + _compared(comparison, metric) + cost


def _edges(row: Row) -> str:
    """Which tuned values are at the edge of their space, by the last part of their paths."""
    return f"edge: {', '.join(path.rpartition('.')[2] for path in row.edges)}" if row.edges else ""


def untrained_cells(row: UntrainedRow, metric: Metric) -> tuple[Cell, ...]:
    """The cells of a prediction without training: its value, and nothing that comes from seeds."""
    absent = Cell(formatting.ABSENT)
    detail = f"no training; data of {formatting.listed(list(row.arms))}" if row.arms else "no training"
    value = Cell(formatting.metric_number(row.value, metric), value=row.value)
    return (Cell(row.name, detail, row.name), absent, value, *[absent] * 6)


def _compared(comparison: Comparison | None, metric: Metric) -> tuple[Cell, ...]:
    if comparison is None:
        return (Cell(formatting.ABSENT),) * 3
    difference, superiority = comparison.difference, comparison.superiority
    interval = superiority.interval
    return (
        Cell(
            formatting.metric_number(difference.mean, metric, signed=True),
            _if_any(formatting.metric_interval(difference.interval, metric, signed=True)),
            difference.mean,
        ),
        Cell(formatting.p_value(comparison.p_value), value=comparison.p_value)
        if comparison.testable
        else Cell("no test", f"n < {comparison.pairs_needed}"),
        Cell(
            formatting.probability(superiority.probability),
            _if_any(f"[{interval.low:.2f}, {interval.high:.2f}]" if math.isfinite(interval.low) else formatting.ABSENT),
            superiority.probability,
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
        if any(row.edges for row in summary.rows):
            lines.append("Edge: the best value of this field is the last one that was tried; see below.")
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
