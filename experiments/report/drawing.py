"""How all figures look, and how they become files.

Made for a column of a two-column paper (3.3 inches) and for readers who do not tell all colours
apart: each arm has its own colour, line style and marker.
"""

import io
import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.statistics import Spread
from experiments.study import Metric

WIDTH, HEIGHT = 3.3, 2.4
DPI = 300

# Okabe and Ito's palette, with a dark grey in place of its yellow, which is too faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,
    "svg.hashsalt": "paribus",
    "figure.constrained_layout.use": True,
}
# Without a date in them, the same records give the same files.
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


class Look(NamedTuple):
    """How one arm is drawn."""

    color: str
    line: Any
    marker: str


def looks(arms: tuple[str, ...]) -> dict[str, Look]:
    """A look of its own for each arm: the three cycles differ in length, so no pair comes back soon."""
    cycles = zip(arms, itertools.cycle(_COLOURS), itertools.cycle(_LINES), itertools.cycle(_MARKERS), strict=False)
    return {arm: Look(colour, line, marker) for arm, colour, line, marker in cycles}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for these figures; the caller's own come back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def blank() -> tuple[Figure, Axes]:
    """An empty figure of one axes, drawn by Agg whatever the caller's backend is."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def render(figure: Figure, kind: str) -> bytes:
    """The figure as a ``png``, ``pdf`` or ``svg`` file. It is laid out once, at the first."""
    if figure.get_layout_engine() is not None:
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=_METADATA[kind])
    return buffer.getvalue()


_LETTERS = 34
"""That the height of a figure has room for."""


def metric_axis(axes: Axes, metric: Metric, label: str) -> None:
    """Label and ticks of a vertical axis in the metric's units."""
    text = f"{label} (%)" if metric.percent else label
    axes.set_ylabel("\n".join(textwrap.fill(line, _LETTERS) for line in text.split("\n")))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if metric.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.6g}"))


def mean_line(axes: Axes, table: pd.DataFrame, look: Look, arm: str, **line: Any) -> None:
    """An arm's line with its band: columns ``mean``, ``low`` and ``high`` over the index of a table."""
    axes.plot(table.index, table["mean"], color=look.color, linestyle=look.line, marker=look.marker, label=arm, **line)
    axes.fill_between(table.index, table["low"], table["high"], color=look.color, alpha=0.18, linewidth=0)


def level_line(
    axes: Axes, levels: Sequence[float], spreads: Sequence[Spread], seeds: Sequence[pd.Series], look: Look, label: str
) -> None:
    """A line through the means at each level of a factor, with their intervals, and a dot for each seed."""
    axes.plot(
        levels, [each.mean for each in spreads], color=look.color, linestyle=look.line, label=label or None, zorder=2
    )
    for level, spread, values in zip(levels, spreads, seeds, strict=True):
        point = {"color": look.color, "marker": look.marker, "markersize": 4.5, "capsize": 2, "linewidth": 1}
        axes.errorbar(level, spread.mean, yerr=bars(spread), **point)
        axes.plot(np.full(len(values), level), values, ".", color=look.color, markersize=3, alpha=0.4)


def metric_scale(axes: Axes, metric: Metric, means: Sequence[float]) -> None:
    """A logarithmic vertical axis for a positive metric that spans more than a decade."""
    if not metric.percent and min(means) > 0 and max(means) > 10 * min(means):
        axes.set_yscale("log")


_MARKER, _LETTER, _LINE = 0.6, 0.066, 0.13
"""Inches of a legend's marker with the space around it, of a letter on average, and between lines."""


def name_above(figure: Figure, panels: Sequence[Axes]) -> None:
    """Say above the panels, in as many columns as fit, what is whose; the figure grows by as much."""
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    width = figure.get_figwidth()
    fitting = int(width / (_MARKER + _LETTER * max(map(len, handles), default=0)))
    columns = max(1, min(fitting, round(3 * width / WIDTH)))
    figure.set_figheight(figure.get_figheight() + _LINE * math.ceil(len(handles) / columns))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        handlelength=2.8,
        columnspacing=1,
    )


def value_axis(axes: Axes, values: list[float]) -> None:
    """A horizontal axis of settings: logarithmic where they are positive and span more than a decade."""
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
        if max(values) < 300 * min(values):
            # The powers of ten alone would be one or two labels.
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))


def bars(spread: Spread) -> list[list[float]] | None:
    """How far an interval reaches below and above its mean, as Matplotlib wants it; None where there is none."""
    low, high = spread.interval
    return [[spread.mean - low], [high - spread.mean]] if math.isfinite(low) else None


def say(axes: Axes, text: str) -> None:
    """Fill axes that have nothing to show with a line of text."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
