"""MNIST in full: 60,000 + 10,000 handwritten digits (LeCun et al. 1998).

The test split is the published one. The last 5,000 of the published training digits are for
validation and the 55,000 before them for training.
"""

import dataclasses
from pathlib import Path

from train.data import idx
from train.data.files import Remote
from train.data.images import ImagesConfig
from train.data.registry import obtain
from train.data.task import Task


def _remote(filename: str, *, size: int, sha256: str) -> Remote:
    return Remote(
        filename=filename,
        urls=(
            f"https://ossci-datasets.s3.amazonaws.com/mnist/{filename}",
            f"https://storage.googleapis.com/cvdf-datasets/mnist/{filename}",
        ),
        sha256=sha256,
        size=size,
        licence="usually given as CC BY-SA 3.0",
    )


FILES = (
    _remote(
        "train-images-idx3-ubyte.gz",
        size=47_040_016,
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    _remote(
        "train-labels-idx1-ubyte.gz",
        size=60_008,
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    _remote(
        "t10k-images-idx3-ubyte.gz",
        size=7_840_016,
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    _remote(
        "t10k-labels-idx1-ubyte.gz",
        size=10_008,
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """The whole of MNIST."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 55,000 digits to train on, 5,000 to validate, 10,000 to test.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    return idx.task("mnist", FILES, [obtain(remote, "mnist", data_dir) for remote in FILES], config)
