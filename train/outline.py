"""A trial by its shapes alone: what it is made of and what it will record, before anything is allocated or compiled."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import diagnostics, full_batch
from train.config import Config, leaves, traced_paths
from train.data.task import Batch, Task
from train.step import State, Step, make_step, step_keys


class Outline(NamedTuple):
    """What a trial is made of; arrays are shapes.

    Attributes:
        task: with the whole training split as one batch, where that is wanted.
        step: the pure functions.
        hyperparameters: traced values by section and field.
        batch: of a training step.
        keys: of a training step, by the name of their stream.
        state: before the first step.
    """

    task: Task
    step: Step
    hyperparameters: Mapping[str, Mapping[str, Any]]
    batch: Batch
    keys: Mapping[str, Any]
    state: State


SEED = jax.ShapeDtypeStruct((), jnp.uint32)
NUMBER = jax.ShapeDtypeStruct((), jnp.int32)
"""What a seed and the number of a step look like."""


def outline(config: Config, task: Task) -> Outline:
    """The outline of a trial.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """
    task, size = full_batch.resolve(config, task)
    task.sampler.check(task.train.arrays, batch_size=size)
    diagnostics.check(config, task, size)
    step = make_step(config, task.shapes, task.objective, task.decoding)
    hyperparameters: dict[str, dict[str, Any]] = {}
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        shape = np.shape(dict(leaves(config))[path].value)
        hyperparameters.setdefault(section, {})[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
    indices = jax.ShapeDtypeStruct((size,), jnp.int32)
    batch = jax.eval_shape(task.sampler.gather, dict(task.train.arrays), indices)  # which loads nothing
    state = jax.eval_shape(step.init, SEED, hyperparameters, batch, dict(task.initial))
    keys = jax.eval_shape(step_keys, SEED, hyperparameters, NUMBER)
    return Outline(task, step, hyperparameters, batch, keys, state)


def diagnostic_columns(config: Config, task: Task) -> tuple[str, ...]:
    """The columns that the diagnostics of a trial give at its end: of ``trials.csv``, and of ``curves.csv``, too.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """
    if not config.diagnostics.is_on:
        return ()
    whole = dict.fromkeys(task.objective.metrics, 0.0) if config.diagnostics.training_split else {}
    found = outline(config, task)
    diagnose = diagnostics.make_diagnosis(config, found.step)
    measured = jax.eval_shape(diagnose, found.state, found.hyperparameters, found.batch, found.keys, SEED, NUMBER)
    ones = {name: np.ones(leaf.shape) for name, leaf in measured.items()}
    size = len(jax.tree.leaves(found.batch.inputs)[0])
    step = diagnostics.finish(ones, config=config, batch_size=size, at_end=True)
    return (*step, *diagnostics.of_training(whole))
