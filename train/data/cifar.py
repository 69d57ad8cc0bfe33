"""Reader of the binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009; cs.toronto.edu/~kriz/cifar.html).

A record is one label byte (CIFAR-10) or two (CIFAR-100: coarse, then fine), then 3,072 bytes: the red, the green and
the blue plane of 32 x 32 pixels, row by row. Nothing but such records is read: the versions for Python and MATLAB,
which are pickles, never are. Within ``DATA_DIR/NAME`` the published archive is taken where it lies, else the files
that come out of it, with or without their folder.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from models.base import BadInput
from train.data.files import File, Remote, decompressed, read
from train.data.registry import obtain

SIDE = 32
_PIXELS = 3 * SIDE * SIDE


def files(remote: Remote, name: str, data_dir: Path | None, *, folder: str, members: Sequence[str]) -> list[File]:
    """The binary files of a data set, unpacked by the user or read out of the published archive.

    Args:
        remote: the archive.
        name: the data set, and the user's folder for it.
        data_dir: the user's folder of data sets, or None.
        folder: the folder inside the archive.
        members: names of the files.

    Raises:
        BadInput: some of the files are absent, or the archive is broken or cannot be had.
    """
    if data_dir is not None and not (data_dir / name / remote.filename).exists():
        for place in (data_dir / name / folder, data_dir / name):
            absent = [member for member in members if not (place / member).exists()]
            if len(absent) < len(members):
                if absent:
                    raise BadInput(f"{place} lacks {absent[0]}: expected {', '.join(members)}")
                return [read(place / member) for member in members]
    return list(_unpacked(obtain(remote, name, data_dir), [f"{folder}/{member}" for member in members]))


def _unpacked(archive: File, members: Sequence[str]) -> Iterator[File]:
    """The members, read out of the archive in memory; nothing is written to the disk."""
    whole = decompressed(archive)  # all of it at once, so that the check sum at its end is seen
    try:
        with tarfile.open(fileobj=io.BytesIO(whole.content), mode="r:") as tar:
            for member in members:
                content = tar.extractfile(member)
                if content is None:
                    raise BadInput(f"{archive.origin}: {member} is not a file")
                yield File(f"{archive.origin}:{member}", content.read())
    except KeyError as error:
        raise BadInput(f"{archive.origin} is not the archive that it should be: {error.args[0]}") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadInput(f"{archive.origin} is corrupt or cut short: {error}; get the file again") from None


def records(
    sources: Sequence[File], *, classes: Sequence[int], count: int
) -> tuple[UInt8[np.ndarray, "count 32 32 3"], UInt8[np.ndarray, "count labels"]]:
    """Images, red, green and blue last, and labels of all the files, in their order.

    Args:
        sources: the files.
        classes: for each label byte of a record, how many classes there are.
        count: records in each file.

    Raises:
        BadInput: a file does not hold so many records, or a label is out of range.
    """
    size = len(classes) + _PIXELS
    parts = []
    for file in sources:
        if len(file.content) != count * size:
            raise BadInput(
                f"{file.origin} is not the binary CIFAR file that it should be: expected {count:,} records of "
                f"{size:,} bytes, found {len(file.content):,} bytes; get the file again"
            )
        part = np.frombuffer(file.content, np.uint8).reshape(count, size)
        outside = np.argwhere(part[:, : len(classes)] >= np.asarray(classes))
        if outside.size:
            row, column = outside[0].tolist()
            raise BadInput(
                f"{file.origin}: record {row} has the label {part[row, column]}; expected 0 to {classes[column] - 1}"
            )
        parts.append(part)
    table = np.concatenate(parts)
    planes = table[:, len(classes) :].reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), table[:, : len(classes)]
