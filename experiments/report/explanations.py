"""Figures of what trained models look at; see :mod:`experiments.explanations`."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.explanations.views import Explanation, Panel
from experiments.report.drawing import WIDTH

_SIDE = 1.1  # inches of a picture
_ACROSS = 2 * WIDTH

_COLOURS = {False: "viridis", True: "RdBu_r"}


def name_of(explanation: Explanation) -> str:
    """The name of the figure's files."""
    return f"explanation-{re.sub(r'[^A-Za-z0-9_.-]+', '-', explanation.trial)}-{explanation.name}"


def figures(explanations: Sequence[Explanation]) -> Iterator[tuple[Explanation, Figure]]:
    """A figure for each explanation."""
    for explanation in explanations:
        yield explanation, _figure(explanation)


def _figure(explanation: Explanation) -> Figure:
    columns = min(explanation.across, len(explanation.panels))
    rows = math.ceil(len(explanation.panels) / columns)
    figure = Figure(figsize=(_ACROSS, rows * max(_height(panel, columns) for panel in explanation.panels)))
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    draw = {"picture": _picture, "heat": _heat, "lines": _lines, "bars": _bars, "words": _words}
    for panel, place in zip(explanation.panels, axes, strict=False):
        place.set_title(panel.title, fontsize=6.5, parse_math=False)
        draw[panel.kind](place, panel)
    for place in axes[len(explanation.panels) :]:
        place.set_axis_off()
    return figure


def _height(panel: Panel, columns: int) -> float:
    """Inches of a row of such panels."""
    if panel.kind == "words":
        return 0.3 + 0.17 * len(panel.rows)
    if panel.kind == "bars":
        return 1.5
    return min(_ACROSS / columns, 2.2) + 0.25 if columns > 1 else 2.0


def _limits(panel: Panel) -> tuple[float | None, float | None]:
    """Values of the first and the last colour; zero is in the middle where the sign matters."""
    if panel.limits:
        return panel.limits[0], panel.limits[1]
    largest = float(np.abs(panel.values).max()) or 1.0
    return (-largest, largest) if panel.signed else (None, None)


def _picture(axes: Axes, panel: Panel) -> None:
    colours = _COLOURS[True] if panel.signed else "gray"
    low, high = _limits(panel)
    axes.imshow(panel.values, cmap=colours, interpolation="nearest", aspect="auto", vmin=low, vmax=high)
    axes.set_axis_off()


def _heat(axes: Axes, panel: Panel) -> None:
    low, high = _limits(panel)
    axes.imshow(panel.values, cmap=_COLOURS[panel.signed], interpolation="nearest", aspect="auto", vmin=low, vmax=high)
    axes.grid(False)
    _names(axes, panel)


def _names(axes: Axes, panel: Panel) -> None:
    size = 5 if len(panel.columns) <= 32 else 4
    turned = 90 if any(len(name) > 1 for name in panel.columns) else 0
    axes.set_xticks(range(len(panel.columns)), panel.columns, rotation=turned, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(panel.rows)), panel.rows, fontsize=size, parse_math=False)


def _lines(axes: Axes, panel: Panel) -> None:
    axes.plot(panel.values.reshape(len(panel.values), -1), linewidth=0.8)


def _bars(axes: Axes, panel: Panel) -> None:
    colours = np.where(panel.values < 0, "#0072B2", "#D55E00")
    axes.bar(range(len(panel.values)), panel.values, color=colours.tolist(), width=0.8)
    turned = 90 if any(len(name) > 1 for name in panel.columns) else 0
    axes.set_xticks(range(len(panel.columns)), panel.columns, rotation=turned, fontsize=6, parse_math=False)
    axes.margins(x=0.01)


def _words(axes: Axes, panel: Panel) -> None:
    axes.set_axis_off()
    axes.set_title("")
    each = len(panel.columns) // max(1, len(panel.rows))
    for row, word in enumerate(panel.rows):
        height = 1 - (row + 0.5) / len(panel.rows)
        near = zip(panel.columns[row * each : (row + 1) * each], panel.values[row], strict=True)
        text = "   ".join(f"{name} {value:.2f}" for name, value in near)
        axes.text(0.02, height, word, fontsize=7, fontweight="bold", va="center", parse_math=False)
        axes.text(0.22, height, text, fontsize=7, va="center", parse_math=False)
