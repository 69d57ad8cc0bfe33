"""Reader of IDX, the format of MNIST and its relatives.

Two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of dimensions, each
dimension as a big-endian 32-bit integer, then the values in row-major order
(http://yann.lecun.com/exdb/mnist, section "File formats").
"""

import struct
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from models.base import BadInput
from train.data.files import File, Remote
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

_UNSIGNED_BYTE = 0x08
_VALIDATION = 5_000


def task(
    name: str,
    remotes: Sequence[Remote],
    files: Sequence[File],
    options: ImagesConfig,
    *,
    classes: int | Sequence[str] = 10,
) -> Task:
    """The task of a data set in the form of MNIST: ten classes, 60,000 + 10,000 images.

    The test split is the published one. The last 5,000 of the published training images are for validation and the
    55,000 before them for training.

    Args:
        name: of the data set.
        remotes: where the files are published.
        files: training images, training labels, test images, test labels.
        options: what a user chose.
        classes: the names of the ten, where they are not digits.

    Raises:
        BadInput: a file is broken.
    """
    pixels, labels = labelled(files[0], files[1])
    return classification(
        name,
        remotes,
        train=Labelled(pixels[:-_VALIDATION], labels[:-_VALIDATION]),
        validation=Labelled(pixels[-_VALIDATION:], labels[-_VALIDATION:]),
        test=Labelled(*labelled(files[2], files[3])),
        classes=classes,
        options=options,
    )


def array(file: File, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The values of an IDX file of unsigned bytes.

    Args:
        file: the file.
        dimensions: how many dimensions it must have: 3 for images, 1 for labels.

    Raises:
        BadInput: it is not such a file, or it is shorter or longer than its header says.
    """
    expected = _UNSIGNED_BYTE << 8 | dimensions
    header = 4 + 4 * dimensions
    if len(file.content) < header:
        raise _broken(file, f"a header of {header} bytes", f"{len(file.content)} bytes in all")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", file.content)
    if magic != expected:
        raise _broken(file, f"the magic number {expected} (unsigned bytes in {dimensions} dimensions)", f"{magic}")
    size = header + int(np.prod(shape, dtype=object))
    if len(file.content) != size:
        sizes = " x ".join(str(extent) for extent in shape)
        raise _broken(file, f"{size:,} bytes for {sizes} values and the header", f"{len(file.content):,} bytes")
    return np.frombuffer(file.content, np.uint8, offset=header).reshape(shape)


def labelled(images: File, labels: File) -> tuple[UInt8[np.ndarray, "count height width"], UInt8[np.ndarray, " count"]]:
    """Images and their labels.

    Raises:
        BadInput: one of the files is broken, or they do not hold equally many items.
    """
    pixels, classes = array(images, dimensions=3), array(labels, dimensions=1)
    if len(pixels) != len(classes):
        raise BadInput(
            f"{labels.origin} does not belong to {images.origin}: expected {len(pixels):,} labels, "
            f"found {len(classes):,}; get both files again from one place"
        )
    return pixels, classes


def _broken(file: File, expected: str, found: str) -> BadInput:
    return BadInput(
        f"{file.origin} is not the IDX file that it should be: expected {expected}, found {found}; get the file again"
    )
