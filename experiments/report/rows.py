"""The rows of a report's table, as plain values."""

import dataclasses

import numpy as np
import pandas as pd

from experiments import statistics
from experiments.comparisons import Comparison, Family
from experiments.statistics import Spread
from experiments.statistics.curves import area_under_curve
from experiments.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One arm's row of the table.

    Attributes:
        arm: its name.
        metric: spread of the study's metric over the trials that finished.
        diverged: number of trials that became NaN.
        crashed: number of trials that ended in an error.
        missing: number of planned trials without a record or without a metric.
        comparison: against the baseline; None for the baseline itself.
        parameters: number of trained parameters; NaN where not recorded.
        flops_per_step: floating-point operations of one training step of one trial.
        train_seconds: spread of the device seconds that a finished trial took.
        curve_area: spread of the mean height of each trial's curve (its area by the trapezoidal rule over its
            length); a trial that failed has none. None where there are no curves.
        exploratory: whether it came after the study was registered.
        edges: tuned paths whose winning value is at the edge of its space.
        latency: spread over rounds of the milliseconds that one example takes; None where it was not measured.
    """

    arm: str
    metric: Spread
    diverged: int
    crashed: int
    missing: int
    comparison: Comparison | None
    parameters: float
    flops_per_step: float
    train_seconds: Spread
    curve_area: Spread | None = None
    exploratory: bool = False
    edges: tuple[str, ...] = ()
    latency: Spread | None = None

    @property
    def costs(self) -> dict[str, float]:
        """What the arm costs, by name (see :data:`experiments.recommendation.COSTS`); NaN where that is not known."""
        return {
            "parameters": self.parameters,
            "flops_per_step": self.flops_per_step,
            "train_seconds": self.train_seconds.mean,
            "latency": float("nan") if self.latency is None else self.latency.mean,
        }

    @property
    def bold(self) -> bool:
        """Whether it is better than the baseline after correction."""
        return self.comparison is not None and self.comparison.better


@dataclasses.dataclass(frozen=True, kw_only=True)
class UntrainedRow:
    """The row of a prediction that needs no training, on the data of some arms.

    Attributes:
        name: of the prediction.
        arms: the arms that it was measured beside, where not all arms have the same data; otherwise none.
        value: the study's metric.
    """

    name: str
    arms: tuple[str, ...]
    value: float


def untrained_rows(study: Study, untrained: pd.DataFrame) -> tuple[UntrainedRow, ...]:
    """A row for each prediction and each data set of the study.

    Args:
        study: the declaration.
        untrained: a row for each arm and prediction: ``arm``, ``name``, ``data_hash`` and the metrics.
    """
    if study.metric.column not in untrained:
        return ()
    several = untrained["data_hash"].nunique() > 1
    return tuple(
        UntrainedRow(
            name=str(rows["name"].iloc[0]),
            arms=tuple(str(arm) for arm in rows["arm"]) if several else (),
            value=float(rows[study.metric.column].iloc[0]),
        )
        for _, rows in untrained.groupby(["name", "data_hash"], sort=False)
    )


def row(arm: str, study: Study, trials: pd.DataFrame, values: pd.Series, family: Family) -> Row:
    """The row of ``arm`` from its own ``trials`` and its metric by seed."""
    metric = statistics.spread(values.to_numpy(np.float64))
    diverged, crashed = (int((trials["status"] == status).sum()) for status in ("diverged", "crashed"))
    finished = trials[trials["status"] == "ok"]
    return Row(
        arm=arm,
        metric=metric,
        diverged=diverged,
        crashed=crashed,
        missing=max(0, study.seeds - metric.n - diverged - crashed),
        comparison=None if arm == study.baseline_name else family.between(arm, study.baseline_name),
        parameters=_largest(trials, "parameters"),
        flops_per_step=_largest(trials, "flops_per_step"),
        train_seconds=statistics.spread(finished["train_seconds"].to_numpy(np.float64)),
    )


def _largest(trials: pd.DataFrame, column: str) -> float:
    """Trials of one arm share their program: all that recorded the value have the same."""
    return float(trials[column].astype(np.float64).max()) if len(trials) else float("nan")


def curve_area(arm: str, column: str, curves: pd.DataFrame | None) -> Spread | None:
    """Spread of the mean height of the curves of an arm's trials; None where there are none of two steps.

    Args:
        arm: its name.
        column: of the curves.
        curves: a row a trial and evaluation.
    """
    if curves is None or column not in curves:
        return None
    mine = curves[curves["arm"] == arm].drop_duplicates(["seed", "step"], keep="last")
    table = mine.pivot(index="seed", columns="step", values=column).astype(np.float64)
    if table.shape[1] < 2:
        return None
    areas = area_under_curve(table.columns.to_numpy(np.float64), table.to_numpy())
    return statistics.spread(areas)


def latency(arm: str, measured: pd.DataFrame | None) -> Spread | None:
    """Spread over the rounds of an arm's milliseconds for one example; None where they were not measured.

    Args:
        arm: its name.
        measured: ``latency.csv``, a row an arm and round.
    """
    mine = None if measured is None else measured.loc[measured["arm"] == arm, "milliseconds"]
    return None if mine is None or mine.empty else statistics.spread(mine.to_numpy(np.float64))
