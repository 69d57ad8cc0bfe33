"""A task small enough that a population compiles and trains in about a second."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import mlp
from models.base import Shapes
from models.inputs import Padded, Pair
from train import objectives
from train.config import Config, Training, Trial, replace
from train.data import digits
from train.data.sampling import ShuffledExamples, Windows
from train.data.task import Task, Test, Train, Validation
from train.optimizers import sgd
from train.schedules import constant

CLASSES = 3


def _images(generator: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Noise with a mean that tells the class, so that there is something to learn."""
    targets = generator.integers(0, CLASSES, size).astype(np.int32)
    inputs = generator.normal(size=(size, 8, 8, 1)) + targets[:, None, None, None]
    return {"inputs": inputs.astype(np.float32), "targets": targets}


@pytest.fixture(scope="session")
def images() -> Task:
    """23 / 11 / 9 images of 8 x 8 in three classes: nothing divides evenly."""
    generator = np.random.default_rng(0)
    return Task(
        name="tiny",
        shapes=Shapes(inputs=(8, 8, 1), vocabulary=None, outputs=CLASSES, per_position=False),
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(_images(generator, 23)),
        validation=Validation(_images(generator, 11)),
        test=Test(_images(generator, 9)),
        facts={"source": "made for tests", "train_size": 23},
    )


@pytest.fixture(scope="session")
def signals() -> Task:
    """Signals of 8 steps and three channels; the class is the channel that is raised."""
    generator = np.random.default_rng(4)
    splits = []
    for size in (23, 11, 9):
        targets = generator.integers(0, CLASSES, size).astype(np.int32)
        inputs = generator.normal(size=(size, 8, 3)) + 2 * np.eye(CLASSES)[targets][:, None, :]
        splits.append({"inputs": inputs.astype(np.float32), "targets": targets})
    return Task(
        name="signals",
        shapes=Shapes(inputs=(8, 3), vocabulary=None, outputs=CLASSES, per_position=False),
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(splits[0]),
        validation=Validation(splits[1]),
        test=Test(splits[2]),
        facts={},
    )


@pytest.fixture(scope="session")
def text() -> Task:
    """A sequence over five symbols, cut into windows of 6."""
    generator = np.random.default_rng(1)
    splits = [{"tokens": generator.integers(0, 5, size).astype(np.int32)} for size in (90, 41, 40)]
    return Task(
        name="tiny text",
        shapes=Shapes(inputs=(6,), vocabulary=5, outputs=5, per_position=True, causal=True),
        objective=objectives.language_modelling("character"),
        sampler=Windows(6),
        train=Train(splits[0]),
        validation=Validation(splits[1]),
        test=Test(splits[2]),
        facts={"source": "made for tests"},
    )


def _padded(generator: np.random.Generator, size: int, most: int) -> Padded:
    """Tokens 1 to 4 with lengths from 2 to ``most``; 0 at padding."""
    mask = np.arange(most)[None] < generator.integers(2, most + 1, size)[:, None]
    return Padded(np.where(mask, generator.integers(1, 5, (size, most)), 0).astype(np.int32), mask)


@pytest.fixture(scope="session")
def sentences() -> Task:
    """Sentences of different length over five symbols; the class is whether the symbol 1 comes in it."""
    generator = np.random.default_rng(2)
    splits = []
    for size in (23, 11, 9):
        inputs = _padded(generator, size, 6)
        splits.append({"inputs": inputs, "targets": (inputs.values == 1).any(1).astype(np.int32)})
    return Task(
        name="tiny sentences",
        shapes=Shapes(inputs=(6,), vocabulary=5, outputs=2, per_position=False),
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(splits[0]),
        validation=Validation(splits[1]),
        test=Test(splits[2]),
        facts={"source": "made for tests"},
    )


@pytest.fixture(scope="session")
def pairs() -> Task:
    """Sequences over five symbols; targets are drawn apart, of other lengths."""
    generator = np.random.default_rng(3)
    splits = []
    for size in (23, 11, 9):
        source, target = _padded(generator, size, 6), _padded(generator, size, 5)
        targets = np.roll(target.values, -1, axis=1) * target.mask
        splits.append({"inputs": Pair(source, target), "targets": targets, "weights": target.mask.astype(np.float32)})
    return Task(
        name="tiny pairs",
        shapes=Shapes(inputs=(6,), vocabulary=5, outputs=5, per_position=True, causal=True, target=5),
        objective=objectives.language_modelling("character"),
        sampler=ShuffledExamples(),
        train=Train(splits[0]),
        validation=Validation(splits[1]),
        test=Test(splits[2]),
        facts={"source": "made for tests"},
    )


@pytest.fixture(scope="session")
def base() -> Config:
    """A perceptron of width 8 with plain gradient descent, 12 steps, evaluated every 5."""
    return Config(
        data=digits.Config(),
        model=mlp.Config(width=8),
        optimizer=sgd.Config(),
        schedule=constant.Config(),
        training=Training(steps=12, batch_size=4, evaluate_every=5, evaluation_batch_size=4),
    )


@pytest.fixture(scope="session")
def make_trials(base: Config) -> Callable[..., tuple[Trial, ...]]:
    """Trials that change the base: ``make_trials({"optimizer.learning_rate": 0.2}, {...}, seeds=(0, 1))``."""

    def make(*arms: dict[str, Any], seeds: tuple[int, ...] = (0,), **shared: Any) -> tuple[Trial, ...]:
        changed = replace(base, {path.replace("__", "."): value for path, value in shared.items()})
        return tuple(
            Trial(arm=f"arm{number}", seed=seed, config=replace(changed, arm))
            for number, arm in enumerate(arms or ({},))
            for seed in seeds
        )

    return make
