"""What a trial costs, known before it runs: parameters, operations, memory. Nothing is allocated."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models import flops, summary
from train.config import Config, traced_paths
from train.data.task import Task
from train.step import decay_mask, make_step, path_name


class Cost(NamedTuple):
    """The cost of one trial.

    Attributes:
        parameters: number of trained values.
        modules: number of them in each part of the model, by name.
        flops_per_step: operations of one training step; see :mod:`models.flops`.
        state_bytes: memory of parameters, optimizer state and running statistics.
        decayed: paths of the parameters that L1, L2 and weight decay act on.
        undecayed: paths of those that they leave alone.
    """

    parameters: int
    modules: Mapping[str, int]
    flops_per_step: float
    state_bytes: int
    decayed: tuple[str, ...]
    undecayed: tuple[str, ...]


def cost(config: Config, task: Task) -> Cost:
    """The cost of one trial of this configuration.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """
    size = config.training.batch_size
    task.sampler.check(task.train.arrays, batch_size=size)
    step = make_step(config, task.shapes, task.objective)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    hyperparameters: dict[str, dict[str, Any]] = {}
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        hyperparameters.setdefault(section, {})[name] = scalar
    batch = jax.eval_shape(lambda: task.sampler.gather(dict(task.train.arrays), jnp.zeros(size, jnp.int32)))
    state = jax.eval_shape(step.init, jax.ShapeDtypeStruct((), jnp.uint32), hyperparameters, batch)
    keys = {"dropout": jax.eval_shape(lambda: jax.random.key(0))}
    operations = flops.count(step.train, state, hyperparameters, batch, keys, jax.ShapeDtypeStruct((), jnp.int32))
    mask = jax.tree_util.tree_leaves_with_path(decay_mask(state.params, config.regularisation.undecayed))
    return Cost(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        modules=summary.by_module(state.params, depth=1),
        flops_per_step=operations,
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        decayed=tuple(path_name(path) for path, decayed in mask if decayed),
        undecayed=tuple(path_name(path) for path, decayed in mask if not decayed),
    )
