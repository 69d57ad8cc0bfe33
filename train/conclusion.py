"""What the final evaluation reads, and what it says of each lane."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train import untrained
from train.config import Training
from train.data.task import Arrays, FinalEvaluation, Task
from train.folder import Files
from train.population import Population
from train.rows import confusion_rows
from train.step import State


class Split(NamedTuple):
    """What is read of a split.

    Attributes:
        arrays: of the split.
        references: what decoded outputs are compared with.
    """

    arrays: Arrays
    references: Sequence[str]


def splits(task: Task, *, test: bool) -> dict[str, Split]:
    """The splits that the final evaluation reads.

    Args:
        task: whose they are.
        test: whether the test split is one of them; of a trial that chooses a configuration it is not.
    """
    found = {"validation": Split(task.validation.arrays, task.validation.references)}
    if test:
        right = FinalEvaluation()
        found["test"] = Split(task.test.open(right), task.test.open_references(right))
    return found


def metrics(task: Task, split: str, evaluation: Any, lane: int) -> dict[str, float]:
    """The metrics of one lane from the sums over a split."""
    finished = task.objective.finish(evaluation.of(lane))
    return {f"{split}_{name}": value for name, value in finished.items()}


class Found(NamedTuple):
    """What the end of a trial found.

    Attributes:
        metrics: of every split.
        measured: what the diagnostics say.
        loss_sum: training losses summed since the evaluation before the last.
        diverged_step: the first step whose loss was not finite, or -1.
    """

    metrics: Mapping[str, float]
    measured: Mapping[str, float]
    loss_sum: float
    diverged_step: int


def steps_since(training: Training, step: int) -> int:
    """Steps from the evaluation before that at ``step`` to it; 0 at the first."""
    return step % training.evaluate_every or min(training.evaluate_every, step)


def outcome(found: Found, training: Training, *, stopped: int, pruned: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What became of a trial, as its row has it, and the numbers in it that the trackers are told: none if it diverged.

    Args:
        found: at its end.
        training: how long it was to train.
        stopped: the step at which it stopped early, or -1.
        pruned: the same for pruning.
    """
    diverged = found.diverged_step
    if diverged < 0 and not all(math.isfinite(value) for value in found.metrics.values()):
        diverged = training.steps
    ended = [step for step in (stopped, pruned) if step >= 0]
    steps = min(ended, default=training.steps)
    status = "diverged" if diverged >= 0 else "pruned" if pruned >= 0 else "ok"
    row: dict[str, Any] = {"status": status, "steps": steps}
    if diverged >= 0:
        return row | {"diverged_step": diverged}, {}
    metrics = {**found.metrics, **found.measured}
    if not ended:  # a trial that has ended adds no losses
        metrics["train_loss"] = found.loss_sum / steps_since(training, steps)
    return row | metrics, metrics


def scores(
    population: Population, states: State, found: Mapping[str, Any], opened: Mapping[str, Split]
) -> list[dict[str, float]]:
    """The final metrics of each lane, on every split; those of what it decodes, too, where the task decodes.

    Args:
        population: the trials.
        states: of all lanes.
        found: the evaluation of each split.
        opened: what :func:`splits` gave.
    """
    task, lanes = population.task, range(len(population.trials))
    result: list[dict[str, float]] = [{} for _ in lanes]
    for split, evaluation in found.items():
        for lane in lanes:
            result[lane] |= metrics(task, split, evaluation, lane)
    for split in opened if task.decoding is not None else ():
        tokens = population.decode(states, opened[split].arrays["inputs"].source)
        for lane in lanes:
            decoded = task.decoding.score(tokens[lane], opened[split].references)  # type: ignore[union-attr]
            result[lane] |= {f"{split}_{name}": value for name, value in decoded.items()}
    return result


def record_beside(
    files: Files, population: Population, opened: Mapping[str, Split], found: Mapping[str, Any], ok: Sequence[bool]
) -> None:
    """Record what stands beside the trials' rows: predictions without training, and confusions of classes.

    Args:
        files: where it goes.
        population: the trials.
        opened: what :func:`splits` gave.
        found: the evaluation of each split.
        ok: of each lane, whether it finished.
    """
    task = population.task
    if task.untrained:
        arrays = {name: split.arrays for name, split in opened.items()}
        files.untrained.put(untrained.rows(population.config, task, arrays), key="id")
    confusion = []
    for lane, trial in enumerate(population.trials):
        if "confusion" in found["test"].sums and ok[lane]:
            confusion += confusion_rows(trial, found["test"].of(lane)["confusion"], task.classes)
    if confusion:
        files.confusion.put(confusion, key="trial")
