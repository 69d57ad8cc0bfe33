"""Tasks that are generated from a seed: no file, no network, and as many examples as one wants.

Example i of a split is a pure function of (data seed, split, i), made by random bits and integer
arithmetic alone, so it is the same on every machine. The splits have seeds of their own: the first 32 bits
of the sha256 of ``<data seed> <split>``. The first K of a finite training split are a part of the first 2K.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np

from models.base import Configuration, Shapes, Static
from train.data.facts import facts
from train.data.task import Batch, Task, Test, Train, Validation

Example = Callable[[Any], Mapping[str, Any]]
"""From random words (uint32) to ``inputs``, ``targets`` and, where not every target counts, ``weights``, by jax."""

FRESH = "fresh in every step"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratedConfig(Configuration):
    """What every generated task lets one choose.

    Attributes:
        train_examples: size of a training split that is made once and then gone through in epochs (each smaller
            split is a part of every larger one); None for examples that are new in every step.
        evaluation_examples: size of the validation split, and of the test split.
        data_seed: of the task itself; the same for all trials, whatever their own seeds.
    """

    train_examples: Annotated[int | None, Static(ge=1, lt=2**31)] = None
    evaluation_examples: Annotated[int, Static(ge=1, lt=2**31)] = 1000
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0


def seed(data_seed: int, split: str) -> np.uint32:
    """The seed of one split of a task."""
    return np.uint32(int.from_bytes(hashlib.sha256(f"{data_seed} {split}".encode()).digest()[:4], "big"))


def task(
    config: GeneratedConfig,
    example: Example,
    *,
    words: int,
    test: tuple[Example, int] | None = None,
    shapes: Shapes,
    objective: Any,
    source: str,
    extra: Mapping[str, str | int | float],
    show: Callable[[Batch], Any] | None = None,
) -> Task:
    """The task whose examples ``example`` makes.

    Args:
        config: of the data set, which gives its name too.
        example: makes an example of the training and of the validation split from random words.
        words: how many an example takes.
        test: the same two for the test split, where that is another distribution.
        shapes: of the task.
        objective: of the task.
        source: the paper.
        extra: further facts for the record.
        show: see :class:`train.data.task.Task`.
    """
    from train.data.fresh import FreshExamples  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    size = config.train_examples
    train_seed = seed(config.data_seed, "train")
    sampler = FreshExamples(example, words)
    fixed, held_out = sampler.fixed(), config.evaluation_examples
    fixed_test = FreshExamples(*test).fixed() if test else fixed
    splits = {
        "train": {"seed": np.asarray(train_seed)} if size is None else fixed(train_seed, size),
        "validation": fixed(seed(config.data_seed, "validation"), held_out),
        "test": fixed_test(seed(config.data_seed, "test"), held_out),
    }
    sizes = {"train_examples": size or FRESH, "validation_examples": held_out, "test_examples": held_out}
    return assembled(
        config.name,
        splits,
        shapes=shapes,
        objective=objective,
        sampler=sampler if size is None else ShuffledExamples(),
        source=source,
        extra={**sizes, **extra},
        show=show,
    )


def assembled(
    name: str,
    splits: Mapping[str, Any],
    *,
    shapes: Shapes,
    objective: Any,
    sampler: Any,
    source: str,
    extra: Mapping[str, str | int | float],
    show: Callable[[Batch], Any] | None,
) -> Task:
    """The task of these three splits, with the facts of one that is generated."""
    origin = {"source": f"generated: {source}", "licence": "none needed: generated"}
    return Task(
        name=name,
        shapes=shapes,
        objective=objective,
        sampler=sampler,
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts={**facts((), sizes={}, splits=splits), **origin, **extra},
        show=show,
    )
