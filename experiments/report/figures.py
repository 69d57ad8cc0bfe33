"""The figures of a report: learning curves, and the metric against the number of parameters."""

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from experiments import formatting, statistics
from experiments.report.drawing import Look, blank, looks, metric_axis, say
from experiments.report.rows import Row
from experiments.report.summary import Summary

# Arms whose numbers of parameters differ by less than this factor are drawn side by side.
_APART = 1.1


def learning_curves(summary: Summary, curves: pd.DataFrame) -> Figure:
    """The curve metric against the step: mean of the trials still finite, and its 95% interval."""
    figure, axes = blank()
    metric = summary.study.metric
    for arm, look in looks(tuple(row.arm for row in summary.rows)).items():
        table = _curve(curves[curves["arm"] == arm], metric.curve)
        if table.empty:
            continue
        axes.plot(
            table.index,
            table["mean"],
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            markevery=max(1, len(table) // 6),
            markersize=3.5,
            label=arm,
        )
        axes.fill_between(table.index, table["low"], table["high"], color=look.color, alpha=0.18, linewidth=0)
    if not axes.lines:
        say(axes, "no curve was recorded")
        return figure
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    metric_axis(axes, metric, metric.curve.replace("_", " "))
    axes.legend(frameon=False, handlelength=2.8)
    return figure


def _curve(curves: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean and interval at each step; no interval where only one trial is left."""
    if column not in curves:
        return pd.DataFrame()
    finite = curves[np.isfinite(curves[column].astype(np.float64))]
    points = {}
    for step, values in finite.groupby("step")[column]:
        spread = statistics.spread(values.to_numpy(np.float64))
        points[step] = {"mean": spread.mean, "low": spread.interval.low, "high": spread.interval.high}
    return pd.DataFrame.from_dict(points, orient="index").sort_index()


def metric_by_parameters(summary: Summary) -> Figure:
    """The metric against the number of parameters: every seed a dot, mean and 95% interval.

    Where all arms have about the same number of parameters, they stand side by side instead.
    """
    figure, axes = blank()
    metric = summary.study.metric
    rows = [row for row in summary.rows if row.metric.n and row.parameters > 0]
    if not rows:
        say(axes, "no trial finished")
        return figure
    counts = [row.parameters for row in rows]
    spread_out = max(counts) >= _APART * min(counts)
    places = _apart(counts) if spread_out else [float(index) for index in range(len(rows))]
    styles = looks(tuple(row.arm for row in summary.rows))
    for row, place in zip(rows, places, strict=True):
        _draw(axes, row, place, summary.values[row.arm].dropna().to_numpy(), styles[row.arm])
    metric_axis(axes, metric, metric.label)
    if spread_out:
        axes.set_xscale("log")
        axes.set_xlim(min(places) / 1.4, max(places) * 1.4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: formatting.si(value)))
        minor = FuncFormatter(lambda value, _: formatting.si(value)) if max(places) < 10 * min(places) else None
        axes.xaxis.set_minor_formatter(minor or NullFormatter())
        axes.set_xlabel("parameters")
        _name_points(figure, axes, rows, places, styles)
    else:
        axes.set_xlim(-0.6, len(rows) - 0.4)
        crowded = sum(len(row.arm) for row in rows) > 36
        axes.set_xticks(
            places, [row.arm for row in rows], rotation=30 if crowded else 0, ha="right" if crowded else "center"
        )
        low, high = formatting.si(min(counts)), formatting.si(max(counts))
        axes.set_xlabel(f"{low} parameters each" if low == high else f"{low} to {high} parameters")
    return figure


def _apart(counts: list[float]) -> list[float]:
    """Places on a logarithmic axis: equal counts are moved a little apart, so that none hides another."""
    step = (max(counts) / min(counts)) ** 0.04
    places, last = [0.0] * len(counts), 0.0
    for index in np.argsort(counts, kind="stable"):
        last = max(counts[index], last * step)
        places[index] = last
    return places


def _draw(axes: Axes, row: Row, place: float, values: np.ndarray, look: Look) -> None:
    """All seeds of an arm as dots, their mean as a marker with its interval."""
    axes.plot(np.full(values.size, place), values, ".", color=look.color, markersize=3.5, alpha=0.5)
    half = row.metric.mean - row.metric.interval.low
    axes.errorbar(
        place,
        row.metric.mean,
        yerr=half if math.isfinite(half) else None,
        color=look.color,
        marker=look.marker,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        capsize=3,
        linewidth=1,
    )


def _name_points(figure: Figure, axes: Axes, rows: list[Row], places: list[float], styles: dict[str, Look]) -> None:
    """Write each arm's name beside its points, on the first side where it hides nothing."""
    figure.draw_without_rendering()
    taken = []
    for row, place in zip(rows, places, strict=True):
        ends = [[place, row.metric.minimum], [place, row.metric.maximum]]
        taken.append(Bbox(axes.transData.transform(ends)).padded(2.5 * figure.dpi / 72))
    sides = [(7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top")]
    shifts = [0, 9, -9, 18, -18, 27, -27]
    for row, place in zip(rows, places, strict=True):
        note = axes.annotate(
            row.arm, (place, row.metric.mean), textcoords="offset points", color=styles[row.arm].color, xytext=(7, 0)
        )
        note.set_in_layout(False)
        for shift, (x, y, horizontal, vertical) in itertools.product(shifts, sides):
            note.set(position=(x, y + shift), ha=horizontal, va=vertical)
            box = note.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(note.get_window_extent())
