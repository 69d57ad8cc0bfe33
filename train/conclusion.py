"""What the final evaluation reads, and what it says of each lane."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train import untrained
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
