"""The figures of a report, each with what it shows in words."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from experiments import formatting
from experiments.report import figures, fronts
from experiments.report.summary import Summary


class Drawn(NamedTuple):
    """A figure: the name of its files, its caption, and what it says to who does not see it."""

    name: str
    figure: Figure
    caption: str
    description: str


def gallery(summary: Summary, curves: pd.DataFrame) -> Iterator[Drawn]:
    """The figures that the study has, one after another."""
    metric = summary.study.metric
    label = f"{metric.label[0].upper()}{metric.label[1:]}"
    means = "; ".join(f"{row.arm} {formatting.metric_number(row.metric.mean, metric)}" for row in summary.rows)
    said = f"{metric.label}{' %' if metric.percent else ''}: {means}."
    yield Drawn(
        "learning_curves",
        figures.learning_curves(summary, curves),
        f"Learning curves: {metric.curve.replace('_', ' ')} against the training step. Lines are means over the seeds "
        "that are still finite, bands their 95% intervals. The vertical axis is fitted to the last nine tenths of the "
        "steps.",
        f"Line chart, a line for each arm. Final {said}",
    )
    yield Drawn(
        "metric_by_parameters",
        figures.metric_by_parameters(summary),
        f"{label} against the number of parameters. Small dots are seeds, large markers means with their 95% "
        "intervals.",
        f"Scatter chart, a point for each arm. Mean {said}",
    )
    yield Drawn(
        "fronts",
        fronts.fronts(summary),
        f"{label} against what an arm costs. Filled markers, joined by a line, form the Pareto front by their means: "
        "no other arm is at once cheaper and better. Bars are 95% intervals.",
        f"Scatter charts against parameters, FLOPs and training time. Mean {said}",
    )
