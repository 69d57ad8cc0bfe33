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
    value_axis,
)
from experiments.report.summary import Summary
from experiments.statements import Levels, SteadierOptimum
from experiments.statistics.optima import best_level
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
    for claim, panels in zip(claims, lines, strict=True):
        families = (claim.steady, claim.moving)
        styles = looks(tuple(dict.fromkeys(name(levels) for family in families for levels in family)))
        evidence = Evidence(summary.study, summary.trials, None)
        table, metric = evidence.table(claim), evidence.metric(claim)
        for panel, family, title in zip(panels, families, ("claimed to be steadier", "the other"), strict=True):
            for levels in family:
                _condition(panel, levels, table, styles[name(levels)], higher_is_better=metric.higher_is_better)
            value_axis(panel, [level for levels in family for _, level in levels])
            panel.set_title(title)
            panel.set_xlabel("level")
        metric_axis(panels[0], metric, metric.label)
        metric_scale(panels[0], metric, list(table.mean().dropna()))
    name_above(figure, list(lines.ravel()))
    return figure


def name(levels: Levels) -> str:
    """What the names of these arms have in common, words as a whole."""
    words = [arm.replace(",", " ").split() for arm, _ in levels]
    shared = [each[0] for each in zip(*words, strict=False) if len(set(each)) == 1]
    return ", ".join(shared) or levels[0][0]


def _condition(axes: Axes, levels: Levels, table: pd.DataFrame, look: Look, *, higher_is_better: bool) -> None:
    """One condition: its line, and a dotted one down from where it is best."""
    present = [(arm, level) for arm, level in sorted(levels, key=lambda each: each[1]) if table[arm].notna().any()]
    seeds = [table[arm].dropna() for arm, _ in present]
    steps = [level for _, level in present]
    level_line(axes, steps, [statistics.spread(each.to_numpy(np.float64)) for each in seeds], seeds, look, name(levels))
    if len(steps) > 2:
        means = np.array([each.mean() for each in seeds]) * (-1 if higher_is_better else 1)
        best = 10 ** float(best_level(np.log10(steps), means[None])[0])
        axes.axvline(best, color=look.color, linestyle=":", linewidth=1)
