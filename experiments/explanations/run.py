"""Explain trials of a finished study from the weights that they kept."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import examples
from experiments.explanations.methods import METHODS
from experiments.explanations.subject import Subject
from experiments.explanations.views import Explanation, write
from experiments.plan import Plan
from models.base import BadInput, unknown
from train import weights
from train.config import Config
from train.data.task import Task
from train.weights import Weights, Which

logger = logging.getLogger("paribus")

EXAMPLES = 3
"""Validation examples, evenly spread over the split."""


def chosen(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """The trials that are named; of an arm its first seed, and of no name every arm's.

    Raises:
        BadInput: a name is neither an arm nor a trial of the plan.
    """
    first = {}
    for trial in plan.trials:
        first.setdefault(trial.arm, trial.id)
    known = {**first, **{trial.id: trial.id for trial in plan.trials}}
    for name in names:
        if name not in known:
            raise unknown("arm or trial", name, known)
    return tuple(dict.fromkeys(known[name] for name in names or first))


def explain(
    plan: Plan, tasks: Mapping[Config, Task], folder: Path, trials: Sequence[str], which: Which = "last"
) -> None:
    """Write ``explanations/TRIAL.json`` for each of these trials; the report draws them.

    Args:
        plan: of the study, as it ran.
        tasks: of each configuration.
        folder: of the study.
        trials: names of trials.
        which: the checkpoint, as for ``--export``.

    Raises:
        BadInput: a trial kept no weights.
    """
    found = weights.of_folder(folder / "checkpoints", which, only=trials)
    missing = [name for name in trials if name not in found]
    if missing:
        kept = "no checkpoint with a score; --config.execution.keep_best=1 keeps some" if which == "best" else "none"
        raise BadInput(f"trial {missing[0]!r} has no weights in {folder / 'checkpoints'}: it kept {kept}")
    arms = {trial.id: trial.arm for trial in plan.trials}
    for name in trials:
        task = tasks[plan.configs[arms[name]]]
        explanations = of(name, found[name], task)
        logger.info("%s: %s", name, ", ".join(each.name for each in explanations) or "nothing fits")
        write(folder, name, explanations)


def of(trial: str, found: Weights, task: Task) -> tuple[Explanation, ...]:
    """The explanations that fit a model and its data.

    Args:
        trial: its name.
        found: its weights.
        task: its data; examples come from the validation split.
    """
    size = task.sampler.evaluation_size(dict(task.validation.arrays))
    count = min(EXAMPLES, size)
    batch = examples.validation(task, [place * size // count for place in range(count)])
    subject = Subject(trial=trial, weights=found, task=task, batch=batch)
    return tuple(each for method in METHODS for each in method(subject))
