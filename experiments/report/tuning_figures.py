"""Tuning in pictures: the metric against each tuned value, and what a budget buys."""

import dataclasses
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.report.drawing import HEIGHT, WIDTH, Look, blank, looks, metric_axis, name_above, say, value_axis
from experiments.report.summary import Summary
from experiments.report.tuned import Tuned
from experiments.statistics.tuning import expected_best
from experiments.study import Metric


def tuning_values(summary: Summary, tuned: Tuned) -> Figure:
    """A panel for each tuned path: every tuning trial a dot, each arm's winner ringed."""
    figure, axes = blank()
    if not tuned.paths:
        say(axes, "nothing was varied")
        return figure
    axes.remove()
    columns = min(2, len(tuned.paths))
    lines = math.ceil(len(tuned.paths) / columns)
    figure.set_size_inches(WIDTH * columns, HEIGHT * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    styles = looks(tuple(row.arm for row in summary.rows))
    for panel, path in zip(panels, tuned.paths, strict=False):
        _panel(panel, summary, tuned, path, styles)
    for panel in panels[::columns]:
        metric_axis(panel, _metric(summary, tuned), tuned.column.replace("_", " "))
    for panel in panels[len(tuned.paths) :]:
        panel.remove()
    name_above(figure, list(panels[: len(tuned.paths)]))
    return figure


def _panel(axes: Axes, summary: Summary, tuned: Tuned, path: str, styles: dict[str, Look]) -> None:
    """One tuned path. A path whose values are no numbers has them as names, side by side."""
    seen = tuned.trials[path].dropna()
    numeric = pd.api.types.is_numeric_dtype(seen) and not pd.api.types.is_bool_dtype(seen)
    names = [] if numeric else sorted({str(value) for value in seen})
    for arm, look in styles.items():
        rows = tuned.scores(arm).dropna(subset=[path, "value"])
        if rows.empty:
            continue  # the arm does not tune this
        values = rows[path].astype(float) if numeric else rows[path].astype(str).map(names.index)
        axes.plot(
            values, rows["value"], look.marker, color=look.color, markersize=4, alpha=0.65, markeredgewidth=0, label=arm
        )
        winner = tuned.winners.get(arm)
        if winner is None or path not in winner.values or not math.isfinite(winner.value):
            continue
        value = float(winner.values[path]) if numeric else names.index(str(winner.values[path]))
        axes.plot(value, winner.value, "o", color=look.color, markersize=9, markerfacecolor="none")
    if numeric and len(seen):
        value_axis(axes, [float(value) for value in seen])
    else:
        axes.set_xticks(range(len(names)), names)
    axes.set_xlabel(path)


def _metric(summary: Summary, tuned: Tuned) -> Metric:
    """The study's metric where tuning compared the same quantity, else one without per cent."""
    metric = summary.study.metric
    same = tuned.column == metric.curve
    return dataclasses.replace(metric, percent=metric.percent and same)


def tuning_budget(summary: Summary, tuned: Tuned) -> Figure:
    """The expected best validation number of so many tuning trials, a line for each arm with its 95% interval.

    Source:
        Tang et al. (2020), Showing your work doesn't always work.
    """
    figure, axes = blank()
    for arm, look in looks(tuple(row.arm for row in summary.rows)).items():
        scores = tuned.scores(arm)["value"].to_numpy(np.float64)
        if not np.isfinite(scores).any():
            continue
        best = expected_best(scores, higher_is_better=tuned.higher_is_better)
        axes.plot(best.budgets, best.best, color=look.color, linestyle=look.line, label=arm)
        axes.fill_between(best.budgets, best.low, best.high, color=look.color, alpha=0.15, linewidth=0)
    axes.set_xlabel("tuning trials")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    metric_axis(axes, _metric(summary, tuned), f"expected best\n{tuned.column.replace('_', ' ')}")
    if axes.lines:
        axes.legend(frameon=False)
    return figure
