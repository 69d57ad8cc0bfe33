"""How far back the state of recurrent networks reaches, where that was measured: a figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments import statistics
from experiments.report.drawing import blank, looks, mean_line, name_above, say
from experiments.report.summary import Summary

NORM, BOUND = "state_gradient/lag_", "state_gradient_bound/lag_"


def measured(summary: Summary) -> bool:
    """Whether any trial has the diagnostic ``state_gradients``."""
    return any(str(name).startswith(NORM) for name in summary.trials)


def by_lag(trials: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Mean and 95% interval over the trials of each lag's column; lags in order, those without a value left out."""
    points = {}
    for name in trials:
        if str(name).startswith(prefix):
            values = pd.to_numeric(trials[name], errors="coerce").to_numpy(np.float64)
            if np.isfinite(values).any():
                spread = statistics.spread(values[np.isfinite(values)])
                lag = int(str(name).removeprefix(prefix))
                points[lag] = {"mean": spread.mean, "low": spread.interval.low, "high": spread.interval.high}
    return pd.DataFrame.from_dict(points, orient="index").sort_index()


def state_gradients(summary: Summary) -> Figure:
    """The norm of dh_T/dh_t against the lag at the end of training, and the bound of simple networks, thin."""
    figure, axes = blank()
    finished = summary.trials[summary.trials["status"] == "ok"]
    for arm, look in looks(tuple(row.arm for row in summary.rows)).items():
        mine = finished[finished["arm"] == arm]
        table, bound = by_lag(mine, NORM), by_lag(mine, BOUND)
        if table.empty:
            continue
        mean_line(axes, table, look, arm, markersize=3)
        if not bound.empty:
            axes.plot(bound.index, bound["mean"], color=look.color, linewidth=0.6)
    if not axes.lines:
        say(axes, "no trial finished")
        return figure
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda lag, _: f"{lag:g}"))
    axes.set_xlabel("lag $T - t$ (steps)")
    axes.set_ylabel(r"$\log_{10}$ of the norm of $dh_T/dh_t$")
    name_above(figure, [axes])
    return figure
