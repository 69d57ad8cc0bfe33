"""What predictions without training come to, measured as the models are; see ``Task.untrained``."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train import provenance
from train.config import Config, to_dict
from train.data.task import Arrays, Task

COLUMNS = ("id", "name", "data_hash")
"""Of ``untrained.csv``, before the metrics of the splits; provenance and the data's configuration stand behind."""


def data_digest(config: Config) -> str:
    """Twelve hexadecimal digits that name the task of a trial."""
    return hashlib.sha256(_data(config).encode()).hexdigest()[:12]


def rows(config: Config, task: Task, splits: Mapping[str, Arrays]) -> list[dict[str, Any]]:
    """A row of ``untrained.csv`` for each prediction of the task; none where it has none.

    Args:
        config: of any trial of this task.
        task: the task.
        splits: the arrays of each split to measure on, by its name.
    """
    name_of_task = data_digest(config)
    return [
        {
            "id": f"{name}-{name_of_task}",
            "name": name,
            "data_hash": name_of_task,
            **{
                f"{split}_{metric}": value
                for split, arrays in splits.items()
                for metric, value in measure(task, predict, arrays, config.training.evaluation_batch_size).items()
            },
            **provenance.collect(),
            "data": _data(config),
        }
        for name, predict in task.untrained.items()
    ]


def measure(task: Task, predict: Callable[[Arrays, Any], Any], arrays: Arrays, batch_size: int) -> dict[str, float]:
    """The metrics of one prediction on a whole split: each evaluation item counts once."""
    size = task.sampler.evaluation_size(arrays)
    batch_size = min(batch_size, size)

    @jax.jit
    def sums(arrays: Arrays, positions: Any) -> dict[str, Any]:
        return task.objective.sums(predict(arrays, positions), task.sampler.evaluation_batch(arrays, positions))

    placed = jax.device_put(dict(arrays))
    total: dict[str, Any] = {}
    for index in range(math.ceil(size / batch_size)):
        part = sums(placed, index * batch_size + jnp.arange(batch_size, dtype=jnp.int32))
        total = {name: total.get(name, 0.0) + np.asarray(value, np.float64) for name, value in part.items()}
    return task.objective.finish(total)


def _data(config: Config) -> str:
    return json.dumps(to_dict(config)["data"], sort_keys=True)
