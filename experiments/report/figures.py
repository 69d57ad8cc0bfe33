"""The figures of a report: learning curves, and the metric against the number of parameters."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox, ScaledTranslation

from experiments import formatting, statistics
from experiments.report.drawing import Look, bars, blank, looks, mean_line, metric_axis, name_above, say
from experiments.report.page_data import thin
from experiments.report.rows import Row
from experiments.report.summary import Summary
from experiments.statistics.curves import Band, simultaneous_band

# Arms whose numbers of parameters differ by less than this factor are drawn side by side.
_APART = 1.1

# Steps at which a band of the whole curve is drawn.
_BAND_POINTS = 60

# How far the dots of the seeds are from their mean, in points.
_BESIDE = 5


def learning_curves(summary: Summary, curves: pd.DataFrame) -> Figure:
    """The curve metric against the step: mean of the trials still finite, and its 95% interval."""
    figure, axes = blank()
    metric = summary.study.metric
    limits = (0.0, 1.0) if metric.percent else (-np.inf, np.inf)  # where no mean can lie, no band need reach
    seen = []
    for index, (arm, look) in enumerate(looks(tuple(row.arm for row in summary.rows)).items()):
        table = _curve(curves[curves["arm"] == arm], metric.curve)
        if table.empty:
            continue
        table = table.clip(*limits)
        every = max(1, len(table) // 6)
        # Curves that lie close together take their markers at different steps.
        mean_line(axes, table, look, arm, markevery=(index % every, every), markersize=3.2)
        whole = _whole_band(curves[curves["arm"] == arm], metric.curve)
        if whole is not None:
            steps, band = whole
            low, high = (np.clip(end, *limits) for end in (band.low, band.high))
            axes.fill_between(steps, low, high, color=look.color, alpha=0.09, linewidth=0)
        seen.append(table)
    if not axes.lines:
        say(axes, "no curve was recorded")
        return figure
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    metric_axis(axes, metric, metric.curve.replace("_", " "))
    _leave_out_start(axes, pd.concat(seen))
    name_above(figure, [axes])
    return figure


def _leave_out_start(axes: Axes, points: pd.DataFrame) -> None:
    """Fit the vertical axis to the last nine tenths of the steps; the first would squeeze the rest."""
    late = points[points.index >= points.index.max() / 10]
    _fit(axes, late.to_numpy().ravel().tolist())


def _fit(axes: Axes, values: list[float]) -> None:
    """Set the vertical limits to hold all finite ``values``, with a margin."""
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.06 * (high - low) or 0.01 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


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


def _whole_band(curves: pd.DataFrame, column: str) -> tuple[np.ndarray, Band] | None:
    """Steps and a 95% band of the whole mean curve; None where a trial lacks a value, for then there is none."""
    values = curves.assign(value=curves[column].astype(np.float64).replace([np.inf, -np.inf], np.nan))
    table = values.pivot_table(index="seed", columns="step", values="value", aggfunc="last", dropna=False)
    if len(table) < 2 or not np.isfinite(table.to_numpy()).all():
        return None
    table = table.iloc[:, thin(table.shape[1], _BAND_POINTS)]
    return table.columns.to_numpy(), simultaneous_band(table.to_numpy(np.float64))


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
    # Shifted dots do not count in Matplotlib's own limits.
    _fit(axes, [end for row in rows for end in (row.metric.minimum, row.metric.maximum, *row.metric.interval)])
    if spread_out:
        axes.set_xscale("log")
        axes.set_xlim(min(places) / 1.4, max(places) * 1.4)
        # Over less than two decades the powers of ten alone are too few labels.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(places) < 100 * min(places) else (1,)))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
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
    # Seeds stand a little to the left of their mean, where no error bar covers them.
    beside = axes.transData + ScaledTranslation(-_BESIDE / 72, 0, axes.figure.dpi_scale_trans)
    axes.plot(
        np.full(values.size, place),
        values,
        ".",
        color=look.color,
        markersize=4,
        markeredgewidth=0,
        alpha=0.55,
        transform=beside,
    )
    axes.errorbar(
        place,
        row.metric.mean,
        yerr=bars(row.metric),
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
        extent = [row.metric.minimum, row.metric.maximum, *row.metric.interval]
        ends = [[place, np.nanmin(extent)], [place, np.nanmax(extent)]]
        left, bottom, right, top = Bbox(axes.transData.transform(ends)).extents
        point = figure.dpi / 72
        taken.append(Bbox.from_extents(left - (_BESIDE + 2) * point, bottom, right + 3 * point, top).padded(point))
    sides = [
        (7, 0, "left", "center"),
        (-11, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    ]
    shifts = [0, 9, -9, 18, -18, 27, -27]
    for row, place in zip(rows, places, strict=True):
        note = axes.annotate(
            row.arm, (place, row.metric.mean), textcoords="offset points", color=styles[row.arm].color, xytext=(7, 0)
        )
        note.set_in_layout(False)
        for shift, (x, y, horizontal, vertical) in itertools.product(shifts, sides):
            note.set(position=(x, y + shift), ha=horizontal, va=vertical)
            box = note.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and figure.bbox.y0 <= box.y0
            inside = inside and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(note.get_window_extent())
