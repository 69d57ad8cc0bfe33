"""Fashion-MNIST: 60,000 + 10,000 grey images of ten kinds of clothes (Xiao et al. 2017, arXiv:1708.07747).

The files of Debian's package ``dataset-fashion-mnist`` are found where it installs them.

The test split is the published one. The last 5,000 of the published training images are for
validation and the 55,000 before them for training.
"""

import dataclasses
from pathlib import Path

from train.data import idx
from train.data.files import Remote
from train.data.images import ImagesConfig
from train.data.registry import obtain
from train.data.task import Task

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def _remote(filename: str, *, size: int, sha256: str) -> Remote:
    return Remote(
        filename=filename,
        urls=(f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{filename}",),
        sha256=sha256,
        size=size,
        licence="MIT",
    )


FILES = (
    _remote(
        "train-images-idx3-ubyte.gz",
        size=47_040_016,
        sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    _remote(
        "train-labels-idx1-ubyte.gz",
        size=60_008,
        sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    _remote(
        "t10k-images-idx3-ubyte.gz",
        size=7_840_016,
        sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    _remote(
        "t10k-labels-idx1-ubyte.gz",
        size=10_008,
        sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """The whole of Fashion-MNIST."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 55,000 images to train on, 5,000 to validate, 10,000 to test.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    files = [obtain(remote, "fashion_mnist", data_dir, installed=_DEBIAN) for remote in FILES]
    return idx.task("fashion_mnist", FILES, files, config, classes=CLASSES)
