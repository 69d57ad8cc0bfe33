"""How far the best level of a factor moves, where a study claims something of that: a figure."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import statistics
from experiments.report.drawing import (
    HEIGHT,
    WIDTH,
    Look,
    blank,
    level_line,
    looks,
    metric_axis,
    metric_scale,
    name_above,
    say,
    value_axis,
)
from experiments.report.summary import Summary
from experiments.statements import Levels, SteadierOptimum
from experiments.study import Metric
from experiments.sweeps import condition
from experiments.verdicts import Evidence


def claimed(summary: Summary) -> tuple[SteadierOptimum, ...]:
    """The claims of the study on how far a best level moves."""
    return tuple(claim for claim in summary.study.claims if isinstance(claim, SteadierOptimum))


def best_levels(summary: Summary) -> Figure:
    """A line of panels a claim, the family that is claimed to be steadier first: the metric by level."""
    figure, axes = blank()
    axes.remove()
    claims = claimed(summary)
    figure.set_size_inches(2 * WIDTH, HEIGHT * len(claims))
    lines = figure.subplots(len(claims), 2, sharey="row", squeeze=False)
    drawn = False
    for claim, panels in zip(claims, lines, strict=True):
        families = (claim.steady, claim.moving)
        styles = looks(tuple(dict.fromkeys(name(levels) for family in families for levels in family)))
        evidence = Evidence(summary.study, summary.trials, None)
        table, metric = evidence.table(claim).dropna(), evidence.metric(claim)  # as for the verdict
        if table.empty:
            for panel in panels:
                say(panel, "no seed finished in all arms")
            continue
        drawn = True
        for panel, family, title in zip(panels, families, ("claimed to be steadier", "the other"), strict=True):
            for levels in family:
                _condition(panel, levels, table, metric, styles[name(levels)])
            value_axis(panel, [level for levels in family for _, level in levels])
            panel.set_title(title)
            panel.set_xlabel("level")
        metric_axis(panels[0], metric, metric.label)
        metric_scale(panels[0], metric, list(table.mean()))
    if drawn:
        name_above(figure, list(lines.ravel()))
    return figure


def name(levels: Levels) -> str:
    """What the names of these arms have in common, words as a whole."""
    words = [arm.replace(",", " ").split() for arm, _ in levels]
    shared = [each[0] for each in zip(*words, strict=False) if len(set(each)) == 1]
    return ", ".join(shared) or levels[0][0]


def _condition(axes: Axes, levels: Levels, table: pd.DataFrame, metric: Metric, look: Look) -> None:
    """One condition: its line, and a dotted one where it is best."""
    ordered = tuple(sorted(levels, key=lambda each: each[1]))
    seeds = [table[arm] for arm, _ in ordered]
    spreads = [statistics.spread(each.to_numpy(np.float64)) for each in seeds]
    level_line(axes, [level for _, level in ordered], spreads, seeds, look, name(levels))
    axes.axvline(condition(ordered, table, metric).best(), color=look.color, linestyle=":", linewidth=1)
