"""The metric against the fields that a study varies by design: a line a level of the others, or a heat map."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import formatting
from experiments.report.drawing import (
    HEIGHT,
    WIDTH,
    blank,
    level_line,
    looks,
    metric_axis,
    metric_scale,
    say,
    value_axis,
)
from experiments.report.rows import Row
from experiments.report.summary import Summary

MOST_CELLS = 144
"""A larger grid would have cells too small to read."""


class Place(NamedTuple):
    """An arm's place in the design: the value of each factor."""

    row: Row
    values: Mapping[str, Any]


def places(summary: Summary) -> tuple[Place, ...]:
    """Where each arm with a result stands, baseline included, by the columns of ``trials.csv``."""
    factors = [path for path in summary.study.factors if path in summary.trials]
    first = summary.trials.drop_duplicates("arm").set_index("arm")
    return tuple(
        Place(row, {path: first.at[row.arm, path] for path in factors})
        for row in summary.rows
        if row.metric.n and row.arm in first.index
    )


def numeric_factors(summary: Summary) -> tuple[str, ...]:
    """The factors with at least two different numbers."""
    found = places(summary)
    return tuple(
        path
        for path in summary.study.factors
        if all(path in place.values and _is_number(place.values[path]) for place in found)
        and len({float(place.values[path]) for place in found}) > 1
    )


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before all else by name."""
    return (False, float(value), "") if _is_number(value) else (True, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def sensitivity(summary: Summary) -> Figure:
    """A panel for each numeric factor: the metric against its value, a line for each setting of the others."""
    figure, axes = blank()
    factors = numeric_factors(summary)
    found = list(places(summary))
    if not factors or not found:
        say(axes, "no numeric factor")
        return figure
    axes.remove()
    columns = min(2, len(factors))
    lines = math.ceil(len(factors) / columns)
    figure.set_size_inches(WIDTH * columns, HEIGHT * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for panel, path in zip(panels, factors, strict=False):
        _panel(panel, summary, found, path)
    for panel in panels[::columns]:
        metric_axis(panel, summary.study.metric, summary.study.metric.label)
    metric_scale(panels[0], summary.study.metric, [place.row.metric.mean for place in found])  # the others share it
    for panel in panels[len(factors) :]:
        panel.remove()
    return figure


def _panel(axes: Axes, summary: Summary, found: list[Place], path: str) -> None:
    groups: dict[tuple[tuple[str, Any], ...], list[Place]] = {}
    for place in found:
        others = tuple((other, value) for other, value in place.values.items() if other != path)
        groups.setdefault(others, []).append(place)
    names = {others: _name(others, groups) for others in groups}
    styles = looks(tuple(dict.fromkeys(names.values())))
    for others, members in sorted(groups.items(), key=lambda group: [_order(value) for _, value in group[0]]):
        members.sort(key=lambda place: float(place.values[path]))
        look = styles[names[others]]
        steps = [float(place.values[path]) for place in members]
        # One point of a design that varies one field at a time belongs to no line of this panel.
        if len(set(steps)) < 2:
            continue
        spreads = [place.row.metric for place in members]
        seeds = [summary.values[place.row.arm].dropna() for place in members]
        level_line(axes, steps, spreads, seeds, look, names[others])
    value_axis(axes, [float(place.values[path]) for place in found])
    axes.set_xlabel(path)
    if axes.get_legend_handles_labels()[1] and len(groups) <= 8:
        axes.legend(frameon=False)


def _name(others: tuple[tuple[str, Any], ...], groups: Mapping[Any, Any]) -> str:
    """The setting of the other factors, of those alone that differ among the lines."""
    differing = [path for index, (path, _) in enumerate(others) if len({key[index][1] for key in groups}) > 1]
    return ", ".join(
        f"{path.removesuffix('.name').rpartition('.')[2]} {formatting.short(value)}"
        for path, value in others
        if path in differing
    )


def grid(summary: Summary) -> pd.DataFrame | None:
    """The mean metric by the two factors of a full grid; None where the study is none.

    The baseline may lie beside the grid; it is then left out.
    """
    if len(summary.study.factors) != 2:
        return None
    found = [place for place in places(summary) if len(place.values) == 2]
    arms = [place for place in found if place.row.arm != summary.study.baseline_name]
    tables = (_grid(summary, members) for members in (found, arms) if members)
    return next((table for table in tables if table is not None), None)


def _grid(summary: Summary, found: list[Place]) -> pd.DataFrame | None:
    """The grid of these arms; None where they are none."""
    first, second = summary.study.factors
    table = pd.DataFrame(
        [(place.values[first], place.values[second], place.row.metric.mean) for place in found],
        columns=[first, second, "mean"],
    ).pivot_table(index=first, columns=second, values="mean", aggfunc="first")
    whole = min(table.shape) > 1 and table.size <= MOST_CELLS and not table.isna().to_numpy().any()
    return table if whole else None


def heat_map(summary: Summary) -> Figure:
    """The grid as coloured cells with their means written in."""
    figure, axes = blank()
    table = grid(summary)
    if table is None:
        say(axes, "no full grid of two factors")
        return figure
    metric = summary.study.metric
    values = table.to_numpy(np.float64)
    lines, columns = values.shape
    figure.set_size_inches(max(WIDTH, 0.55 * columns + 1.2), max(HEIGHT, 0.32 * lines + 0.9))
    # Bright is better, whichever way the metric goes.
    image = axes.imshow(values, cmap="viridis" if metric.higher_is_better else "viridis_r", aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(columns), [formatting.short(value) for value in table.columns])
    axes.set_yticks(range(lines), [formatting.short(value) for value in table.index])
    axes.set_xlabel(str(table.columns.name))
    axes.set_ylabel(str(table.index.name))
    for line in range(lines):
        for column in range(columns):
            red, green, blue, _ = image.to_rgba(values[line, column])
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
            text = formatting.metric_number(float(values[line, column]), metric)
            axes.text(column, line, text, ha="center", va="center", color="white" if dark else "black", fontsize=6.5)
    bar = figure.colorbar(image, ax=axes)
    metric_axis(bar.ax, metric, metric.label)
    return figure
