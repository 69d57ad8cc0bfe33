"""The figures of a report, each with what it shows in words."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from experiments import formatting
from experiments.explanations.views import Explanation
from experiments.report import explanations, figures, fronts, lags, optima, sensitivity, tuning_figures
from experiments.report.drawing import WIDTH
from experiments.report.summary import Summary
from experiments.report.tuned import Tuned


class Drawn(NamedTuple):
    """A figure: the name of its files, its caption, and what it says to who does not see it."""

    name: str
    figure: Figure
    caption: str
    description: str

    @property
    def wide(self) -> bool:
        """Whether it needs the width of two."""
        return bool(self.figure.get_figwidth() > 1.5 * WIDTH)


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
        "that are still finite. Dark bands are their 95% intervals at each step; light ones, where every trial "
        "finished, hold the whole mean curve in 95% of studies. The vertical axis is fitted to the last nine tenths of "
        "the steps.",
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
    if lags.measured(summary):
        yield Drawn(
            "state_gradients",
            lags.state_gradients(summary),
            "How strongly the last state of a recurrent network depends on an earlier one, against the lag between "
            "them, at the end of training: means over the seeds, with 95% intervals. A thin line without markers is "
            "the bound of the simple network in its colour, the largest singular value of its recurrent weights to "
            "the power of the lag.",
            "Line chart, a line for each arm.",
        )
    if sensitivity.numeric_factors(summary):
        yield Drawn(
            "sensitivity",
            sensitivity.sensitivity(summary),
            f"{label} against each field that the study varies, a line for each setting of the others. Small dots are "
            "seeds, bars 95% intervals of the mean.",
            f"Line charts against {', '.join(sensitivity.numeric_factors(summary))}. Mean {said}",
        )
    if sensitivity.grid(summary) is not None:
        yield Drawn(
            "heat_map",
            sensitivity.heat_map(summary),
            f"Mean {metric.label} at each point of the grid; brighter is better.",
            f"Heat map of {' and '.join(summary.study.factors)}. Mean {said}",
        )
    if optima.claimed(summary):
        yield Drawn(
            "best_levels",
            optima.best_levels(summary),
            "What each level of a factor leads to, under two conditions in two families. A dotted line is where a "
            "condition is at its best: the lowest point of the parabola through the best mean and its neighbours. "
            "Small dots are seeds, bars 95% intervals of the mean.",
            f"Line charts, a line for each condition. Mean {said}",
        )
    if summary.tuned is not None:
        yield from _tuning(summary, summary.tuned)
    yield from _explained(summary.explanations)


def _tuning(summary: Summary, tuned: Tuned) -> Iterator[Drawn]:
    column = tuned.column.replace("_", " ")
    best = "; ".join(f"{arm} {winner.value:.5g}" for arm, winner in tuned.winners.items())
    yield Drawn(
        "tuning_values",
        tuning_figures.tuning_values(summary, tuned),
        f"{column[0].upper()}{column[1:]} against each tuned value. A dot is a setting that was tried, a ring the one "
        "that won.",
        f"Scatter charts against {', '.join(tuned.paths)}. Best {column}: {best}.",
    )
    yield Drawn(
        "tuning_budget",
        tuning_figures.tuning_budget(summary, tuned),
        f"Expected best {column} after so many tuning trials, with 95% intervals (Tang et al. 2020). Where lines "
        "cross, the ranking of the arms depends on the budget. Exact for random search, an approximation for others.",
        f"Line chart, a line for each arm. Best {column}: {best}.",
    )


def _explained(found: Sequence[Explanation]) -> Iterator[Drawn]:
    """The figures of what trained models look at."""
    for each, figure in explanations.figures(found):
        titles = ", ".join(dict.fromkeys(panel.title for panel in each.panels[:12]))
        yield Drawn(
            explanations.name_of(each),
            figure,
            f"{each.trial}. {each.caption}",
            f"{each.name} of trial {each.trial}: {titles}.",
        )
