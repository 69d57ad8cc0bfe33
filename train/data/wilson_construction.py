"""The data on which adaptive methods fail.

Wilson et al. 2017, "The marginal value of adaptive gradient methods in machine learning", section 3.3.
Labels y are +1 with probability p and -1 otherwise. Feature 1 is y, features 2 and 3 are 1, and each
example has five features of its own: where y = +1 the first of them is 1, where y = -1 all five are. All else
is 0. Least squares from 0 by gradient descent learns the sign of feature 1 and is always right. Adaptive
methods (AdaGrad, Adam, RMSProp) give all features that occur a weight of the same size, so on new examples, of
which only features 1 to 3 were seen in training, they answer +1 whatever y is: their error is the share of
negatives. Examples of the three splits have different features of their own.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.base import Configuration, Shapes, Static
from train.data.generated import assembled, seed
from train.data.task import Batch, Task

FILES = ()

_COMMON, _OWN = 3, 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Two classes, told apart by one feature.

    Attributes:
        positive: p, probability of the label +1; more than a half, as the paper needs.
        train_examples: size of the training split.
        evaluation_examples: size of the validation split, and of the test split.
        data_seed: of the labels.
    """

    positive: Annotated[float, Static(gt=0.5, lt=1)] = 0.6
    train_examples: Annotated[int, Static(ge=1, le=4000)] = 100
    evaluation_examples: Annotated[int, Static(ge=1, le=4000)] = 100
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of least squares on labels of +1 and -1. ``data_dir`` is not needed."""
    from train.data.sampling import ShuffledExamples  # imports jax; a list of the data sets must not

    del data_dir
    held_out = config.evaluation_examples
    sizes = {"train": config.train_examples, "validation": held_out, "test": held_out}
    total = _COMMON + _OWN * sum(sizes.values())
    splits, first = {}, _COMMON
    for name, size in sizes.items():
        splits[name] = examples(_labels(config, name, size), first, total)
        first += _OWN * size
    shares = {f"{name}_negatives": int(np.sum(arrays["targets"] < 0)) for name, arrays in splits.items()}
    return assembled(
        config.name,
        splits,
        shapes=Shapes(inputs=(total,), vocabulary=None, outputs=1, per_position=False),
        objective=_signs(),
        sampler=ShuffledExamples(),
        source="Wilson et al. 2017, section 3.3",
        extra={**{f"{name}_examples": size for name, size in sizes.items()}, **shares},
        show=_show,
    )


def _labels(config: Config, split: str, size: int) -> np.ndarray:
    draws = np.random.Generator(np.random.PCG64(seed(config.data_seed, split))).random(size)
    return np.where(draws < config.positive, 1, -1)


def examples(labels: np.ndarray, first: int, total: int) -> dict[str, Any]:
    """Inputs and targets of these labels; the features of their own begin at ``first``."""
    inputs = np.zeros((len(labels), total), np.float32)
    inputs[:, 0], inputs[:, 1:_COMMON] = labels, 1
    for row, label in enumerate(labels):
        start = first + _OWN * row
        inputs[row, start : start + (1 if label > 0 else _OWN)] = 1
    return {"inputs": inputs, "targets": labels.astype(np.float32)}


def _signs() -> Any:
    """Least squares, and the share of outputs that have the target's sign."""
    import jax.numpy as jnp

    from train import objectives

    squares = objectives.regression()

    def sums(outputs: Any, batch: Batch) -> dict[str, Any]:
        right = jnp.sign(outputs.reshape(batch.targets.shape)) == batch.targets
        return squares.sums(outputs, batch) | {"right": jnp.sum(right * batch.weights)}

    def finish(sums: Any) -> dict[str, float]:
        return squares.finish(sums) | {"accuracy": float(sums["right"] / sums["weight"])}

    return objectives.Objective(squares.loss, (), sums, (*squares.metrics, "accuracy"), finish)


def _show(example: Batch) -> str:
    """The features that are not 0, counted from 1, and the label."""
    places = np.flatnonzero(example.inputs)
    listed = ", ".join(f"x{place + 1}={example.inputs[place]:+.0f}" for place in places)
    return f"{listed} -> {float(np.ravel(example.targets)[0]):+.0f}"
