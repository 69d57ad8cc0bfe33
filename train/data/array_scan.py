"""Arrays in files that may be larger than memory: opened without being read, and gone through once in blocks.

What going through them finds (digests, ranges, moments, rows that recur) is kept in the cache under the files'
paths, sizes and times of change, so that the next start need not read them again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt64

from models.base import BadInput
from train.data.registry import cache_folder
from train.records import write_atomically

LOGGER = logging.getLogger("paribus")

BLOCK_BYTES = 16 * 2**20
"""Memory for one block of rows."""

_VERSION = 1  # of what is found; another number makes everything in the cache stale
_PATIENCE = 10.0  # seconds between two reports


class Part(NamedTuple):
    """Rows of an array that lies in a file.

    Attributes:
        path: of the file.
        rows: memory-mapped, ``whole[start : start + len(rows)]`` of the file's array.
        start: the first of them in the file.
    """

    path: Path
    rows: Any
    start: int

    def cut(self, start: int, stop: int) -> "Part":
        """Some of the rows."""
        return Part(self.path, self.rows[start:stop], self.start + start)

    def blocks(self) -> Iterator[tuple[int, Shaped[np.ndarray, "rows ..."]]]:
        """The rows in blocks, each with the place of its first row in the file.

        They are read, not mapped, so that a process does not seem to hold the whole file.
        """
        row = self.rows[:1]
        each = max(1, BLOCK_BYTES // row.nbytes)
        reported = time.monotonic()
        with self.path.open("rb") as file:
            file.seek(self.rows.offset + self.start * row.nbytes)  # the offset is that of the whole array
            for start in range(0, len(self.rows), each):
                if time.monotonic() - reported > _PATIENCE:
                    reported = time.monotonic()
                    LOGGER.info("%s: %.0f%% read", self.path, 100 * start / len(self.rows))
                count = min(each, len(self.rows) - start)
                block = np.fromfile(file, self.rows.dtype, count * row.size)
                yield self.start + start, block.reshape(count, *self.rows.shape[1:])


def opened(path: Path) -> Part:
    """The array of a file ``.npy``, or the bytes of a file ``.txt``; nothing but the header is read.

    Raises:
        BadInput: there is no such file, or it is no array of numbers that can be mapped; it is empty or cut short.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    if not size:
        raise BadInput(f"{path} is empty")
    try:
        if path.suffix == ".txt":
            return Part(path, np.memmap(path, np.uint8, "r"), 0)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:100]
        raise BadInput(
            f"{path} is no whole array of numbers ({reason}); write it again with numpy.save, which must have ended"
        ) from None
    if not isinstance(array, np.memmap):
        array.close()  # an archive
        raise BadInput(f"{path} is not one array: write one file for each array with numpy.save")
    if not array.ndim or not array.size:
        raise BadInput(f"{path} has an array of shape {array.shape}: rows are needed")
    if not array.flags.c_contiguous:
        raise BadInput(f"{path} is in Fortran order: save numpy.ascontiguousarray(array), so that a row lies together")
    if not array.dtype.isnative:
        raise BadInput(
            f"{path} has numbers of type {array.dtype.str}, another machine's byte order: save it in this one's"
        )
    return Part(path, array, 0)


class Found(NamedTuple):
    """What going through a part finds.

    Attributes:
        sha256: of its bytes.
        least, most: of its numbers.
        counts: of bytes, how often each of the 256 occurs in each channel, the last axis; None of other types.
    """

    sha256: str
    least: float
    most: float
    counts: list[list[int]] | None


def scanned(part: Part, *, below: int | None = None, rows: list[UInt64[np.ndarray, " _"]] | None = None) -> Found:
    """Go through a part once.

    Args:
        part: the rows.
        below: whole numbers must be at least 0 and less than this, where it is given.
        rows: gets a hash of every row, a block at a time, where it is given.

    Raises:
        BadInput: a number is NaN, infinite or out of this range; the message names the row.
    """
    digest = hashlib.sha256()
    least, most = np.inf, -np.inf
    counts = None
    if part.rows.dtype == np.uint8 and part.rows.ndim > 2:
        counts = np.zeros((part.rows.shape[-1], 256), np.int64)
    for start, block in part.blocks():
        _check(part.path, start, block, below)
        digest.update(block.data)
        least, most = min(least, float(block.min())), max(most, float(block.max()))
        if counts is not None:
            columns = block.reshape(-1, block.shape[-1])
            counts += np.stack([np.bincount(column, minlength=256) for column in columns.T])
        if rows is not None:
            rows.append(row_hashes(block))
    return Found(digest.hexdigest(), least, most, None if counts is None else counts.tolist())


def _check(path: Path, start: int, block: np.ndarray, below: int | None) -> None:
    if np.issubdtype(block.dtype, np.floating):
        wrong, wanted = ~np.isfinite(block), "finite numbers"
    else:
        most = np.iinfo(np.int32).max if below is None else below - 1
        wrong, wanted = (block < 0) | (block > most), f"0 to {most:,}"
    places = np.argwhere(wrong)
    if len(places):
        place = tuple(int(axis) for axis in places[0])
        raise BadInput(f"{path}: row {start + place[0]:,} has {block[place]}; expected {wanted}")


def row_hashes(block: Shaped[np.ndarray, "rows ..."]) -> UInt64[np.ndarray, " rows"]:
    """64 bits of every row: sums of its words times odd numbers, mixed before and after.

    Two different rows of a million share them with a probability of about 3e-8.
    """
    lines = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint8)
    lines = np.pad(lines, ((0, 0), (0, -lines.shape[1] % 8))).view(np.uint64)
    factors = np.random.Generator(np.random.PCG64(0)).integers(0, 2**64, lines.shape[1], np.uint64) | np.uint64(1)
    mixed = lines ^ (lines >> np.uint64(29))
    mixed *= factors
    mixed ^= mixed >> np.uint64(32)
    total = mixed.sum(axis=1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return total ^ (total >> np.uint64(32))


def repeated(rows: Mapping[str, Sequence[UInt64[np.ndarray, " _"]]]) -> dict[str, int]:
    """How many rows of a split stand in one before it, as :func:`train.data.facts.duplicates`, by hashes.

    Args:
        rows: of every split by its name, in the order train, validation, test.
    """
    names, result = list(rows), {}
    for number, earlier in enumerate(names):
        for later in names[number + 1 :]:
            own = np.concatenate(rows[later])
            found = np.zeros(len(own), bool)
            for block in rows[earlier]:
                found |= np.isin(own, block)
            result[f"{later}_examples_in_{earlier}"] = int(found.sum())
    return result


def remembered(parts: Sequence[Part]) -> tuple[Path | None, dict[str, Any] | None]:
    """Where the findings on these parts are kept, and what is kept there; None where there is nothing of use."""
    states = [(str(part.path.resolve()), part.path.stat(), part.start, len(part.rows)) for part in parts]
    lines = [f"{path} {state.st_size} {state.st_mtime_ns} {start} {rows}" for path, state, start, rows in states]
    digest = hashlib.sha256("\n".join([str(_VERSION), *lines]).encode()).hexdigest()[:32]
    try:
        path = cache_folder() / "array_files" / f"{digest}.json"
        return path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (BadInput, OSError, ValueError) as error:
        LOGGER.warning("nothing is kept of %s: %s", parts[0].path.parent, error)
        return None, None


def remember(path: Path | None, found: Mapping[str, Any]) -> None:
    """Keep findings for the next start; where that fails they are found again."""
    if path is None:
        return
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(found))
    except OSError as error:
        LOGGER.warning("%s cannot be written: %s", path, error.strerror)
