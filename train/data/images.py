"""Tasks of labelled images: standardisation by the training split, and the task itself."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from models.base import Shapes
from train.data.facts import facts
from train.data.files import Packaged, Remote
from train.data.task import Task, Test, Train, Validation


class Labelled(NamedTuple):
    """The images of a split, grey, and the class of each."""

    pixels: UInt8[np.ndarray, "count height width"]
    classes: UInt8[np.ndarray, " count"]


def classification(
    name: str,
    files: Sequence[Remote | Packaged],
    *,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    classes: int,
) -> Task:
    """The task of telling the class of a grey image.

    Inputs are float32 [height, width, 1]: ``(x / 255 - mean) / deviation``, where mean and standard
    deviation are two numbers, taken over all pixels of the training images that are used and nothing else.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    scaled = train.pixels.astype(np.float32) / np.float32(255)
    mean, deviation = float(scaled.mean(dtype=np.float64)), float(scaled.std(dtype=np.float64))
    splits = {
        split: {"inputs": _standardised(images.pixels, mean, deviation), "targets": images.classes.astype(np.int32)}
        for split, images in (("train", train), ("validation", validation), ("test", test))
    }
    sizes = {f"{split}_examples": len(arrays["targets"]) for split, arrays in splits.items()}
    return Task(
        name=name,
        shapes=Shapes(inputs=splits["train"]["inputs"].shape[1:], vocabulary=None, outputs=classes, per_position=False),
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts={
            **facts(files, sizes=sizes, splits=splits),
            "classes": classes,
            "pixel_mean": mean,
            "pixel_deviation": deviation,
        },
    )


def _standardised(
    pixels: UInt8[np.ndarray, "count height width"], mean: float, deviation: float
) -> Float32[np.ndarray, "count height width 1"]:
    scaled = pixels[..., None].astype(np.float32)
    scaled /= np.float32(255)
    scaled -= np.float32(mean)
    # A deviation of 0 (all pixels equal) leaves nothing to scale.
    scaled /= np.float32(deviation or 1.0)
    return scaled
