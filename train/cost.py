"""What a trial costs, known before it runs: parameters, operations, memory. Nothing is allocated."""

import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from models import chains, flops, summary
from train.config import Config, program_key, traced_paths
from train.data.task import Batch, BucketedSampler, Task
from train.outline import NUMBER, outline
from train.parameters import decay_mask, path_name


class Cost(NamedTuple):
    """The cost of one trial.

    Attributes:
        parameters: number of trained values.
        modules: number of them in each part of the model, by name.
        flops_per_step: operations of one training step; see :mod:`models.flops`. Where batches differ in
            width, the mean over the examples.
        sequential_products: matrix products of a training step on the longest chain of those that must wait for one
            another; see :mod:`models.chains`.
        state_bytes: memory of parameters, optimizer state and running statistics.
        decayed: paths of the parameters that L1, L2 and weight decay act on.
        undecayed: paths of those that they leave alone.
    """

    parameters: int
    modules: Mapping[str, int]
    flops_per_step: float
    sequential_products: int
    state_bytes: int
    decayed: tuple[str, ...]
    undecayed: tuple[str, ...]


_known: weakref.WeakKeyDictionary[Task, dict[Any, Cost]] = weakref.WeakKeyDictionary()
"""What has been found out; arms that differ in traced values alone cost the same."""


def cost(config: Config, task: Task) -> Cost:
    """The cost of one trial of this configuration.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """
    known, key = _known.setdefault(task, {}), (program_key(config), traced_paths([config]))
    if key not in known:
        known[key] = _find(config, task)
    return known[key]


def parameter_count(config: Config, task: Task) -> int:
    """Number of trained values: :func:`cost` without the operations, which take longer to count.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """
    return sum(leaf.size for leaf in jax.tree.leaves(outline(config, task).state.params))


def _find(config: Config, task: Task) -> Cost:
    task, step, hyperparameters, batch, keys, state = outline(config, task)
    programs = [
        (share, jax.make_jaxpr(step.train)(state, hyperparameters, each, keys, NUMBER))
        for share, each in _batches(task, batch)
    ]
    mask = jax.tree_util.tree_leaves_with_path(decay_mask(state.params, config.regularisation.undecayed))
    return Cost(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        modules=summary.by_module(state.params, depth=1),
        flops_per_step=sum(share * flops.of_program(program) for share, program in programs),
        sequential_products=max(chains.longest(program) for _, program in programs),
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        decayed=tuple(path_name(path) for path, decayed in mask if decayed),
        undecayed=tuple(path_name(path) for path, decayed in mask if not decayed),
    )


def _batches(task: Task, batch: Batch) -> list[tuple[float, Batch]]:
    """The shapes of a training batch, each with the share of the examples that come in it."""
    sampler = task.sampler
    if not isinstance(sampler, BucketedSampler):
        return [(1.0, batch)]
    ends = np.asarray(task.train.arrays["ends"])
    shares = np.diff(ends, prepend=0) / ends[-1]
    used = [number for number, share in enumerate(shares) if share > 0]
    shapes = jax.eval_shape(lambda whole: [sampler.narrowed(whole, number) for number in used], batch)
    return [(float(shares[number]), each) for number, each in zip(used, shapes, strict=True)]
