"""The folder of a study: its tables, their columns, and where the checkpoints lie."""

from collections.abc import Sequence
from pathlib import Path

from train import provenance, untrained
from train.config import Trial, values
from train.data.task import Task
from train.population import Population
from train.records import Table

OUTCOME = (
    "status",
    "error",
    "diverged_step",
    "steps",
    "parameters",
    "flops_per_step",
    "sequential_products",
    "train_seconds",
)
COUNTED = ("steps", "parameters", "flops_per_step", "sequential_products", "train_seconds", "train_loss")
"""Numbers that every trial's row has, whatever its task."""
SPLITS = ("validation", "test")
SPENT = ("compile", "step", "evaluate", "checkpoint", "input", "diagnose")
"""What the seconds of a sitting went into; in the rest, ``idle``, the devices had nothing to do for another reason."""
SITTING = ("idle", "ideal", "cpu_seconds")
"""Seconds, too: ``ideal`` is what the steps take at their fastest (see :mod:`train.pace`), ``cpu_seconds`` what all
threads of the process worked."""


def metric_names(tasks: Sequence[Task], *, final: bool = False) -> list[str]:
    """The metrics that these tasks report, each once, in order.

    Args:
        tasks: the tasks.
        final: with those that the final evaluation alone reports, of decoded outputs.
    """
    names = [name for task in tasks for name in task.objective.metrics]
    if final:
        names += [name for task in tasks if task.decoding for name in task.decoding.metrics]
    return list(dict.fromkeys(names))


class Files:
    """Where a study's records and checkpoints lie.

    Args:
        folder: the study's folder.
        trials: all trials of the study, which give the hyperparameter columns.
        tasks: all tasks of the study, which give the metric and data columns.
        tuning: these are tuning trials: their tables and checkpoints lie apart, and know no test split.
    """

    def __init__(self, folder: Path, trials: Sequence[Trial], tasks: Sequence[Task], *, tuning: bool = False) -> None:
        metrics = metric_names(tasks)
        settings = dict.fromkeys(path for trial in trials for path in values(trial.config))
        facts = dict.fromkeys(f"data_{name}" for task in tasks for name in task.facts)
        origin = ("config_hash", *provenance.COLUMNS, "strategy", *facts, "config")
        head = ("trial", "arm", "seed", *(("number",) if tuning else ()))
        splits = ("validation",) if tuning else SPLITS
        finals = [f"{split}_{name}" for split in splits for name in metric_names(tasks, final=True)]
        measured = [f"validation_{name}" for name in metrics]
        self.checkpoint_folder = folder / ("tuning_checkpoints" if tuning else "checkpoints")
        self.trials = Table(
            folder / ("tuning.csv" if tuning else "trials.csv"),
            (*head, *OUTCOME, *(("value",) if tuning else ()), "train_loss", *finals, *settings, *origin),
            optional={"train_loss", "sequential_products", *finals, *settings, *facts},
        )
        self.curves = Table(
            folder / ("tuning_curves.csv" if tuning else "curves.csv"),
            (*head, "step", "seconds", "train_loss", *measured, *origin),
            optional={*measured, *facts},
        )
        self.untrained = Table(
            folder / "untrained.csv",
            (*untrained.COLUMNS, *finals, *provenance.COLUMNS, "data"),
            optional=set(finals),
        )
        self.sittings = Table(
            folder / "sittings.csv",
            ("began", "tuning", "trials", "cores", "seconds", *SPENT, *SITTING),
            optional=SITTING,
        )
        names = ("true_name", "predicted_name")
        self.confusion = Table(
            folder / "confusion.csv", ("trial", "true", "predicted", *names, "count"), optional=set(names)
        )

    def checkpoints(self, population: Population) -> Path:
        """The folder of a population's checkpoints."""
        return self.checkpoint_folder / population.id

    def finished(self) -> set[tuple[str, str]]:
        """Trials that have their row, as (id, digest of the configuration)."""
        rows = self.trials.rows()
        return {(row["trial"], row["config_hash"]) for row in rows if row["status"] != "crashed"}
