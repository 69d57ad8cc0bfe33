"""Sparse linear regression: few of many features matter (Tibshirani 1996, section 7; Wainwright 2009).

``y = x w + noise`` with x ~ N(0, I) in d dimensions; k of the weights are +1 or -1, the others 0; noise is
N(0, deviation^2), in all splits. The best mean squared error that a test can show is deviation^2; always to answer 0
gives k + deviation^2. The lasso finds which weights are not 0 with about 2 k ln(d - k) examples or more
(Wainwright 2009, theorem 1); least squares needs d.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import numpy as np

from models.base import BadInput, Configuration, Shapes, Static
from train.data.generated import assembled, seed
from train.data.task import Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A sparse vector of weights to be found.

    Attributes:
        features: d.
        nonzero: k, how many features matter.
        noise: standard deviation of what is added to the targets.
        train_examples: size of the training split (each smaller one is a part of every larger one).
        evaluation_examples: size of the validation split, and of the test split.
        data_seed: of weights, inputs and noise.
    """

    features: Annotated[int, Static(ge=1)] = 200
    nonzero: Annotated[int, Static(ge=0)] = 10
    noise: Annotated[float, Static(ge=0)] = 0.5
    train_examples: Annotated[int, Static(ge=1)] = 150
    evaluation_examples: Annotated[int, Static(ge=1)] = 1000
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0

    def validate(self) -> None:
        """No more weights matter than there are."""
        if self.nonzero > self.features:
            raise BadInput(f"nonzero={self.nonzero} must be at most features={self.features}")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of regression on ``features`` numbers. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    del data_dir
    support, signs = weights(config)
    held_out = config.evaluation_examples
    sizes = {"train": config.train_examples, "validation": held_out, "test": held_out}
    splits = {}
    for name, size in sizes.items():
        x = _generator(config, name).standard_normal((size, config.features), np.float32)
        noise = _generator(config, f"{name} noise").standard_normal(size)
        y = np.sum(x[:, support].astype(np.float64) * signs, axis=1) + config.noise * noise
        splits[name] = {"inputs": x, "targets": np.round(y, 6).astype(np.float32)}
    return assembled(
        config.name,
        splits,
        shapes=Shapes(inputs=(config.features,), vocabulary=None, outputs=1, per_position=False),
        objective=objectives.regression(),
        sampler=ShuffledExamples(),
        source="after Tibshirani 1996 and Wainwright 2009",
        extra={
            **{f"{name}_examples": size for name, size in sizes.items()},
            "weights": " ".join(f"{place}:{sign:+d}" for place, sign in zip(support, signs, strict=True)),
            "least_mse": config.noise**2,
            "mse_of_zero": config.nonzero + config.noise**2,
            "examples_lasso_needs": math.ceil(2 * config.nonzero * math.log(max(1, config.features - config.nonzero))),
        },
        show=None,
    )


def _generator(config: Config, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed(config.data_seed, purpose)))


def weights(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Which features matter, in order, and the weight of each, +1 or -1."""
    generator = _generator(config, "weights")
    support = np.sort(generator.permutation(config.features)[: config.nonzero])
    return support, 2 * generator.integers(0, 2, config.nonzero) - 1
