"""CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes (Krizhevsky 2009).

The test split is the published one. The last 5,000 of the published training images are for validation and the
45,000 before them for training (He et al. 2016, section 4.2, split as many of each).
"""

import dataclasses
from pathlib import Path

from train.data import cifar
from train.data.files import Remote
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

FILES = (
    Remote(
        filename="cifar-10-binary.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        size=170_052_171,
        licence="none stated; cite Krizhevsky 2009",
        archive=True,
    ),
)

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_TRAIN, _TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)
_RECORDS = 10_000  # in each file
_VALIDATION = 5_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """The whole of CIFAR-10."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 45,000 images to train on, 5,000 to validate, 10,000 to test.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    *train, test = cifar.files(FILES[0], "cifar10", data_dir, folder="cifar-10-batches-bin", members=_TRAIN + _TEST)
    pixels, labels = cifar.records(train, classes=(10,), count=_RECORDS)
    test_pixels, test_labels = cifar.records([test], classes=(10,), count=_RECORDS)
    return classification(
        "cifar10",
        FILES,
        train=Labelled(pixels[:-_VALIDATION], labels[:-_VALIDATION, 0]),
        validation=Labelled(pixels[-_VALIDATION:], labels[-_VALIDATION:, 0]),
        test=Labelled(test_pixels, test_labels[:, 0]),
        classes=CLASSES,
        options=config,
    )
