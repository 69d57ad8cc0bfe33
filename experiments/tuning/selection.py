"""Which configuration of an arm is chosen: the best on the validation split, by the mean over the tuning seeds."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.spaces import Space
from experiments.study import Metric, Tuning
from models.base import BadInput
from train.data.task import Task
from train.directions import higher_is_better
from train.folder import metric_names

STEPS = "steps"
"""The column of the steps that a trial took: to its target, where it has one."""


class Compared(NamedTuple):
    """By what configurations are compared.

    Attributes:
        column: of ``tuning.csv``, of the validation split; or the steps to a target.
        higher_is_better: direction.
    """

    column: str
    higher_is_better: bool


@dataclasses.dataclass(frozen=True)
class Winner:
    """The configuration that an arm was given.

    Attributes:
        winner: its values by path; of spaces that do not exist in it, none.
        value: the mean over the tuning seeds of what is compared; None where no trial trained to its end.
        number: which tuning trial it was; None where the arm has nothing to tune.
        edges: paths whose value lies at the edge of their space, so that a better one may lie outside.
        trials: points that the arm tried.
        statuses: how many of the tuning trials ended in each way.
    """

    winner: Mapping[str, Any]
    value: float | None
    number: int | None
    edges: tuple[str, ...]
    trials: int
    statuses: Mapping[str, int]


def compared(tuning: Tuning, metric: Metric, tasks: Mapping[str, Task]) -> Compared:
    """What is compared, and its direction.

    The direction is the metric's own, by its name: a study of accuracies may be tuned by a loss.

    Args:
        tuning: as declared.
        metric: of the study.
        tasks: of each arm.

    Raises:
        BadInput: it is not of the validation split, or an arm's task does not report it.
    """
    column = tuning.column or metric.curve
    if column == STEPS:
        return Compared(column, False)
    if not column.startswith("validation_"):
        raise BadInput(f"tuning.column={column!r} must be a column of the validation split, such as {metric.curve}")
    name = column.removeprefix("validation_")
    for arm, task in tasks.items():
        # What is decoded is known at the end alone: too late to prune by.
        reported = metric_names([task], final=tuning.pruning == "none")
        if name not in reported:
            names = ", ".join(f"validation_{each}" for each in reported)
            raise BadInput(f"tuning.column={column!r}: the task of arm {arm!r} reports {names}")
    if name == metric.column.partition("_")[2]:
        return Compared(column, metric.higher_is_better)
    direction = higher_is_better(name)
    if direction is not None:
        return Compared(column, direction)
    raise BadInput(
        f"tuning.column={column!r}: whether more of it is better is not known; choose another, or {metric.curve}"
    )


def choose(
    rows: Sequence[Mapping[str, str]],
    points: Sequence[tuple[int, Mapping[str, Any]]],
    spaces: Mapping[str, Space],
    *,
    seeds: int,
    higher_is_better: bool,
) -> Winner:
    """The best point of an arm; of equals, the earlier one.

    A point counts as the mean over its seeds. One of which a seed diverged, crashed or was pruned cannot win while
    another can.

    Args:
        rows: of ``tuning.csv``, of this arm.
        points: number and values of each.
        spaces: of the arm.
        seeds: of each point.
        higher_is_better: direction.
    """
    values: dict[int, list[float]] = {}
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row["status"]] = statuses.get(row["status"], 0) + 1
        if row["status"] == "ok":
            values.setdefault(int(row["number"]), []).append(float(row["value"]))

    def loss(number: int) -> float:
        found = values.get(number, [])
        if len(found) < seeds:
            return math.inf
        mean = statistics.fmean(found)
        return -mean if higher_is_better else mean

    number, winner = min(points, key=lambda point: (loss(point[0]), point[0]))
    value = statistics.fmean(values[number]) if math.isfinite(loss(number)) else None
    edges = tuple(path for path, found in winner.items() if spaces[path].is_edge(found))
    return Winner(dict(winner), value, number, edges if value is not None else (), len(points), statuses)


def content(tuning: Tuning, metric: Compared, steps: int, winners: Mapping[str, Winner]) -> str:
    """The content of ``tuning.json``."""
    found = {
        "column": metric.column,
        "higher_is_better": metric.higher_is_better,
        "trials": tuning.trials,
        "steps": steps,
        "seeds": tuning.seeds,
        "search": tuning.search,
        "pruning": tuning.pruning,
        "arms": {
            arm: dataclasses.asdict(each) | {"winner": {path: _plain(value) for path, value in each.winner.items()}}
            for arm, each in winners.items()
        },
    }
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Winner]:
    """The winners of ``tuning.json``; none where it is not there yet.

    Raises:
        BadInput: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        arms = json.loads(path.read_text(encoding="utf-8"))["arms"]
        return {
            arm: Winner(
                **found
                | {"edges": tuple(found["edges"])}
                | {"winner": {path: _typed(value) for path, value in found["winner"].items()}}
            )
            for arm, found in arms.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is damaged; move its folder away and run again") from None


def _plain(value: Any) -> Any:
    """A value for JSON, which has no infinity."""
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _typed(value: Any) -> Any:
    """A value as configurations hold it: what :func:`_plain` changed, and tuples, which JSON has not."""
    if value in ("inf", "-inf"):
        return float(value)
    return tuple(value) if isinstance(value, list) else value
