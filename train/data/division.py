"""Another division of a data set: training and validation examples pooled and dealt out anew.

Shows how much of a result's spread comes from which examples were held out (Bouthillier et al. 2021,
"Accounting for variance in machine learning benchmarks", section 2.1; they draw the test examples anew,
too, which stay the same here). What was fitted to the training split before, such as a vocabulary or the mean of
the pixels, stays as it was.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.base import BadInput
from train.data.array_sampling import TokenExamples
from train.data.image_sampling import EachStandardised, StandardisedExamples
from train.data.sampling import ShuffledExamples
from train.data.task import Task, Train, Validation


def divided(task: Task, seed: int) -> Task:
    """The task with parts of the same sizes, drawn by the seed.

    Args:
        task: as its data set divides it.
        seed: of NumPy's PCG64.

    Raises:
        BadInput: its examples are not rows that stand for themselves (windows of one text or series).
    """
    own, held = dict(task.train.arrays), dict(task.validation.arrays)
    if not _is_rows(task, own, held):
        raise BadInput(
            f"seeds.split=seed deals out single examples, and data set {task.name!r} is not made of such; "
            "use seeds.split=own"
        )
    count = len(next(iter(own.values())))
    order = np.random.default_rng(seed).permutation(count + len(next(iter(held.values()))))
    pooled = {name: np.concatenate([own[name], held[name]])[order] for name in own}
    return dataclasses.replace(
        task,
        train=Train({name: rows[:count] for name, rows in pooled.items()}),
        validation=Validation({name: rows[count:] for name, rows in pooled.items()}),
    )


def _is_rows(task: Task, own: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether both splits are the same arrays, each with the examples as its first axis."""
    known = (ShuffledExamples, StandardisedExamples, EachStandardised, TokenExamples)
    if type(task.sampler) not in known or own.keys() != held.keys():
        return False
    lengths = [{np.shape(array)[:1] for array in arrays.values()} for arrays in (own, held)]
    same = all(np.shape(own[name])[1:] == np.shape(held[name])[1:] for name in own)
    return same and all(len(each) == 1 and () not in each for each in lengths) and not task.validation.references
