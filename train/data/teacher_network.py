"""A teacher: a random network of one hidden layer labels random inputs, some of them wrongly.

x ~ N(0, I) in d dimensions; the teacher is ``V tanh(W x / sqrt(d)) / sqrt(k)`` with k hidden units and all of
W and V from N(0, 1) (the student-teacher setting of Saad and Solla 1995, with tanh for their error function).
``classes``: the label is the largest output; each *training* label is replaced with probability
``label_noise`` by one of the others, uniformly, and the held-out labels are clean (Nakkiran et al. 2020, "Deep
double descent", section 3). ``real``: the target is the one output, divided by its standard deviation over
the training split; ``label_noise`` is the standard deviation of what is added to the training targets.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from models.base import Configuration, Shapes, Static
from train.data.generated import assembled, seed
from train.data.task import Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Labels by a random network.

    Attributes:
        target: classes or real.
        classes: how many there are (where the target is a class).
        features: d, length of an input.
        width: k, hidden units of the teacher.
        label_noise: share of training labels that are wrong, or deviation of the noise on real targets.
        train_examples: size of the training split (each smaller one is a part of every larger one, but for the
            scale of real targets).
        evaluation_examples: size of the validation split, and of the test split.
        data_seed: of teacher, inputs and noise.
    """

    target: Annotated[Literal["classes", "real"], Static()] = "classes"
    classes: Annotated[int, Static(ge=2)] = 4
    features: Annotated[int, Static(ge=1)] = 32
    width: Annotated[int, Static(ge=1)] = 16
    label_noise: Annotated[float, Static(ge=0, le=1)] = 0.0
    train_examples: Annotated[int, Static(ge=1)] = 1000
    evaluation_examples: Annotated[int, Static(ge=1)] = 1000
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of learning what the teacher knows. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    del data_dir
    sizes = {
        "train": config.train_examples,
        "validation": config.evaluation_examples,
        "test": config.evaluation_examples,
    }
    inputs = {
        name: _generator(config, name).standard_normal((size, config.features), np.float32)
        for name, size in sizes.items()
    }
    taught = {name: teacher(config, x) for name, x in inputs.items()}
    label = _classes if config.target == "classes" else _real
    targets, facts = label(config, taught)
    return assembled(
        config.name,
        {name: {"inputs": inputs[name], "targets": targets[name]} for name in sizes},
        shapes=Shapes(
            inputs=(config.features,),
            vocabulary=None,
            outputs=config.classes if config.target == "classes" else 1,
            per_position=False,
        ),
        objective=objectives.classification() if config.target == "classes" else objectives.regression(),
        sampler=ShuffledExamples(),
        source="after Saad and Solla 1995 and, for the noise, Nakkiran et al. 2020",
        extra={**{f"{name}_examples": size for name, size in sizes.items()}, **facts},
        show=None,
    )


def _generator(config: Config, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed(config.data_seed, purpose)))


def teacher(config: Config, x: Float32[np.ndarray, "count features"]) -> Float64[np.ndarray, "count outputs"]:
    """The teacher's outputs. Rounded to six places, which hides in what order a machine adds."""
    outputs = config.classes if config.target == "classes" else 1
    generator = _generator(config, "teacher")
    W = generator.standard_normal((config.width, config.features))
    V = generator.standard_normal((outputs, config.width))
    hidden = np.tanh(x.astype(np.float64) @ W.T / np.sqrt(config.features))
    return np.round(hidden @ V.T / np.sqrt(config.width), 6)


def _classes(config: Config, taught: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The class of each example, and the noise that came out."""
    targets = {name: np.argmax(outputs, axis=1).astype(np.int32) for name, outputs in taught.items()}
    clean = targets["train"]
    # Row by row, so that a smaller training split has the noise of the larger one's first rows.
    draws = _generator(config, "noise").random((len(clean), 2))
    others = (clean + 1 + np.floor(draws[:, 1] * (config.classes - 1)).astype(np.int32)) % config.classes
    wrong = draws[:, 0] < config.label_noise
    targets["train"] = np.where(wrong, others, clean).astype(np.int32)
    return targets, {"classes": config.classes, "wrong_train_labels": int(wrong.sum())}


def _real(config: Config, taught: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The target of each example, and the scale that divided it."""
    scale = float(np.std(taught["train"])) or 1.0
    targets = {name: outputs[:, 0] / scale for name, outputs in taught.items()}
    noise = _generator(config, "noise").standard_normal(config.train_examples)
    targets["train"] = targets["train"] + config.label_noise * noise
    return {name: values.astype(np.float32) for name, values in targets.items()}, {"teacher_deviation": scale}
