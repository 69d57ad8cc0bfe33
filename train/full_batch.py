"""Gradient descent on the whole training split: ``training.batch_size=0``."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from models.base import BadInput
from train.config import Config
from train.data.bucketing import BucketedExamples
from train.data.sampling import ShuffledExamples
from train.data.task import Arrays, Batch, Sampler, Task


@dataclasses.dataclass(frozen=True)
class WholeSplit:
    """Draws all examples at every step, in the order in which they lie, whatever the seed.

    So the gradient has no noise at all, not even that of another order of addition.

    Attributes:
        sampler: of the task, which gathers and evaluates.
    """

    sampler: Sampler

    def check(self, arrays: Arrays, *, batch_size: int) -> None:
        """What the task's sampler checks."""
        self.sampler.check(arrays, batch_size=batch_size)

    def train_size(self, arrays: Arrays) -> int:
        """Number of examples of the split."""
        return self.sampler.train_size(arrays)

    def epoch_steps(self, arrays: Arrays, *, batch_size: int) -> int:
        """As many as there can be: every step draws the same."""
        del arrays, batch_size
        return 2**31 - 1

    def order(self, arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> tuple[()]:
        """Nothing: every step draws the same."""
        del arrays, key, step, batch_size
        return ()

    def draw(self, order: tuple[()], arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> Int[Array, " batch"]:
        """The indices of all examples."""
        del order, arrays, key, step
        return jnp.arange(batch_size, dtype=jnp.int32)

    def gather(self, arrays: Arrays, indices: Int[Array, " batch"]) -> Batch:
        """The examples at these indices, as wide as the widest."""
        return self.sampler.gather(arrays, indices)

    def evaluation_size(self, arrays: Arrays) -> int:
        """Number of items that an evaluation goes through."""
        return self.sampler.evaluation_size(arrays)

    def evaluation_batch(self, arrays: Arrays, positions: Int[Array, " batch"]) -> Batch:
        """The evaluation items at these positions."""
        return self.sampler.evaluation_batch(arrays, positions)


def resolve(config: Config, task: Task) -> tuple[Task, int]:
    """The task as this configuration trains on it, and the number of items in a step.

    Args:
        config: of the trial.
        task: as its data set gives it.

    Raises:
        BadInput: all of the split is wanted, and the task has no split of examples that could be gone through.
    """
    size = config.training.batch_size
    if size:
        return task, size
    if isinstance(task.sampler, WholeSplit):  # resolved before
        return task, task.sampler.train_size(task.train.arrays)
    if not isinstance(task.sampler, ShuffledExamples | BucketedExamples):
        raise BadInput(
            f"training.batch_size=0 takes the whole training split at every step, and the task {config.data.name!r} "
            "draws its items at random; give a number"
        )
    whole = WholeSplit(task.sampler)
    return dataclasses.replace(task, sampler=whole), whole.train_size(task.train.arrays)
