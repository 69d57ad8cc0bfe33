"""Which arms are worth their cost: the metric against parameters, FLOPs, training time and inference latency."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from experiments.report.drawing import HEIGHT, WIDTH, Look, bars, blank, looks, metric_axis, name_above, say
from experiments.report.rows import Row
from experiments.report.summary import Summary
from experiments.statistics import Spread
from experiments.statistics.pareto import front

_COSTS = {
    "parameters": "parameters",
    "flops_per_step": "FLOPs per step",
    "train_seconds": "training (s)",
    "latency": "latency (ms)",
}


def fronts(summary: Summary) -> Figure:
    """A panel for each cost: every arm's mean with its interval, those of the front joined and filled."""
    figure, first = blank()
    rows = [row for row in summary.rows if row.metric.n]
    shown = [name for name in _COSTS if any(row.costs[name] > 0 for row in rows)]
    if not shown:
        say(first, "no trial finished")
        return figure
    first.remove()
    figure.set_size_inches(WIDTH * max(1, 0.72 * len(shown)), HEIGHT)
    styles = looks(tuple(row.arm for row in summary.rows))
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, shown, strict=True):
        _panel(axes, summary, rows, name, styles)
    metric_axis(panels[0], summary.study.metric, summary.study.metric.label)
    name_above(figure, [panels[0]])
    return figure


def _panel(axes: Axes, summary: Summary, rows: list[Row], name: str, styles: dict[str, Look]) -> None:
    costs = np.array([row.costs[name] for row in rows])
    values = np.array([row.metric.mean for row in rows])
    best = front(np.where(costs > 0, costs, np.nan), values, higher_is_better=summary.study.metric.higher_is_better)
    # Between its points a front is a step: who may pay a little more gets no more than the cheaper arm.
    axes.step(costs[best], values[best], where="post", color="#888888", linewidth=1, zorder=1)
    for place, row in enumerate(rows):
        look = styles[row.arm]
        axes.errorbar(
            costs[place] if costs[place] > 0 else math.nan,
            values[place],
            yerr=bars(row.metric),
            xerr=_measured(row, name),
            color=look.color,
            marker=look.marker,
            markersize=5,
            markerfacecolor=look.color if place in best else "white",
            capsize=2,
            linewidth=1,
            linestyle="none",
            label=row.arm,
        )
    axes.set_xscale("log")
    known = costs[costs > 0]
    axes.set_xlim(known.min() / 1.5, known.max() * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if known.max() < 30 * known.min() else (1,)))
    # Parts of a second have prefixes of their own, which would be read as others.
    plain = name in ("train_seconds", "latency")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}") if plain else EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(_COSTS[name])


def _measured(row: Row, name: str) -> list[list[float]] | None:
    """The interval of a cost that is measured; None for one that is counted."""
    spread = {"train_seconds": row.train_seconds, "latency": row.latency}.get(name)
    return bars(spread) if isinstance(spread, Spread) else None
