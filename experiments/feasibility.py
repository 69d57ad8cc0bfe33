"""Whether a plan can run: its data can be had, its metric is reported, and every model can treat its task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import matching
from experiments.plan import Plan, recorded_matches, with_matched
from models.base import BadInput
from train import data
from train.config import Config, Trial
from train.cost import Cost, cost
from train.data.task import Task
from train.folder import COUNTED, SPLITS, metric_names
from train.outline import diagnostic_columns


def load_tasks(plan: Plan, data_dir: str | Path | None) -> dict[Config, Task]:
    """The task of each arm's configuration; each data set is loaded once.

    Raises:
        BadInput: ``data_dir`` is no folder, or the data cannot be had or are damaged.
    """
    loaded: dict[Any, Task] = {}
    directory = None if data_dir is None else Path(data_dir)
    if directory is not None and not directory.is_dir():
        raise BadInput(f"data_dir={str(directory)!r} is not a folder")
    for config in plan.configs.values():
        if config.data not in loaded:
            loaded[config.data] = data.load(config.data, directory)
    return {config: loaded[config.data] for config in plan.configs.values()}


def matched_plan(plan: Plan, tasks: dict[Config, Task], folder: Path) -> tuple[Plan, dict[Config, Task]]:
    """The plan and its tasks once the arms are as large or expensive as the baseline.

    What an earlier run in the folder solved for stays: a measured time is another every time.

    Raises:
        BadInput: an arm cannot be.
    """
    if plan.study.matching is None:
        return plan, tasks
    matched = recorded_matches(plan.study, folder)
    if {each.arm for each in matched} != set(plan.study.matching.by):
        matched = matching.solve(plan.study.matching, plan.configs, plan.study.baseline_name, tasks)
    found = with_matched(plan, matched)
    return found, {config: tasks[plan.configs[name]] for name, config in found.configs.items()}


def check_metric(plan: Plan, tasks: Mapping[Config, Task]) -> None:
    """Every arm must report the metric that the study compares, lest it be missed after hours; those of claims, too.

    Raises:
        BadInput: one does not.
    """
    study = plan.study
    recorded = {}
    for name, config in plan.configs.items():
        try:
            recorded[name] = _recorded(config, tasks[config])
        except BadInput as error:
            raise BadInput(f"arm {name!r}: {error}") from None
    own = [(claim.metric, claim.arms) for claim in study.claims if claim.metric is not None]
    for metric, arms in ((study.metric, tuple(recorded)), *own):
        for name in arms:
            for column, known in zip((metric.column, metric.curve), recorded[name], strict=True):
                if column not in known:
                    raise BadInput(
                        f"arm {name!r}: study {study.name} compares {column}, and with data set "
                        f"{plan.configs[name].data.name!r} and its diagnostics it reports only {', '.join(known)}"
                    )


def _recorded(config: Config, task: Task) -> tuple[list[str], list[str]]:
    """The numbers that an arm's trials record: columns of ``trials.csv``, and those of ``curves.csv``."""
    measured = diagnostic_columns(config, task)
    final = [f"{split}_{name}" for split in SPLITS for name in metric_names([task], final=True)]
    curves = [f"validation_{name}" for name in metric_names([task])]
    return [*final, *measured, *COUNTED], ["train_loss", *curves, *measured]


def costs(plan: Plan, tasks: Mapping[Config, Task]) -> dict[str, Cost]:
    """What one trial of each arm costs; finds out, too, whether every model can treat its task.

    Raises:
        BadInput: one cannot. Nothing has been compiled or written by then.
    """
    result = {}
    for name, config in plan.configs.items():
        try:
            result[name] = cost(config, tasks[config])
        except BadInput as error:
            raise BadInput(f"arm {name!r}: {error}") from None
    return result


def costs_of(trials: Sequence[Trial], tasks: Mapping[Config, Task]) -> dict[Config, Cost]:
    """What one trial of each configuration costs.

    Raises:
        BadInput: some model cannot treat its task.
    """
    result = {}
    for trial in trials:
        try:
            result[trial.config] = cost(trial.config, tasks[trial.config])
        except BadInput as error:
            raise BadInput(f"arm {trial.arm!r}: {error}") from None
    return result
