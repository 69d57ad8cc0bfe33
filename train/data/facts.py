"""What a record says of the data that a trial was trained on."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from train.data.files import Packaged, Remote
from train.data.task import Arrays


def facts(
    files: Sequence[Remote | Packaged], *, sizes: Mapping[str, int], splits: Mapping[str, Arrays]
) -> dict[str, str | int]:
    """Source, licence, sizes, duplicates across splits and fingerprint of a data set.

    Args:
        files: where the data come from.
        sizes: what there is to count, e.g. ``{"train_examples": 3500}``.
        splits: the arrays of every split by its name; the training split comes first, the test split last.
    """
    return {
        "source": " ".join(dict.fromkeys(file.urls[0] for file in files)),
        "licence": "; ".join(dict.fromkeys(file.licence for file in files)),
        **sizes,
        **duplicates(splits),
        "fingerprint": fingerprint(splits),
    }


def fingerprint(splits: Mapping[str, Arrays]) -> str:
    """sha256 over the name, type, shape and bytes of every array, in the order of the names."""
    digest = hashlib.sha256()
    for split, arrays in sorted(splits.items()):
        for name, array in sorted(arrays.items()):
            for path, part in _parts(name, array):
                digest.update(f"{split} {path} {part.dtype.str} {part.shape}\n".encode())
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def duplicates(splits: Mapping[str, Arrays]) -> dict[str, int]:
    """How many examples of a split have exactly the inputs of an example in a split before it.

    ``{"validation_examples_in_train": 0, "test_examples_in_train": 3, "test_examples_in_validation": 1}``. A model
    may have learnt such an example by heart; near duplicates are not found. Targets are not compared. Splits that
    are not rows of ``inputs`` (one long text) give nothing.

    Args:
        splits: the arrays of every split by its name, in the order train, validation, test.
    """
    rows = {split: _digests(arrays["inputs"]) for split, arrays in splits.items() if "inputs" in arrays}
    known = {split: frozenset(digests) for split, digests in rows.items()}
    return {
        f"{later}_examples_in_{earlier}": sum(row in known[earlier] for row in rows[later])
        for earlier, later in itertools.combinations(rows, 2)
    }


def repeated_windows(
    series: Sequence[Float64[np.ndarray, "_ channels"]],
    windows: Mapping[str, Int64[np.ndarray, "_ 2"]],
    context: int,
) -> dict[str, int]:
    """:func:`duplicates` of windows that are cut out of series: how many see exactly the rows that another sees.

    Args:
        series: the rows of each, in their own units.
        windows: of every split, in the order train, validation, test: the series and the first row to forecast.
        context: rows that are seen before it, or all where there are fewer.
    """
    rows = [_row_hashes(one) for one in series]
    powers = np.cumprod(np.full(max(map(len, rows)) + 1, _FACTOR, np.uint64))
    # The hash of rows a to b is the sum of row j's times factor^j, times factor^-a: one difference of sums from the
    # beginning, and an integer product modulo 2^64.
    sums = [np.concatenate([[np.uint64(0)], np.cumsum(one * powers[: len(one)], dtype=np.uint64)]) for one in rows]
    inverses = np.cumprod(np.full(len(powers), pow(_FACTOR, -1, 2**64), np.uint64))
    first = np.cumsum([0, *map(len, sums)])[:-1]
    flat = np.concatenate(sums)
    keys = {}
    for split, places in windows.items():
        begin = np.maximum(places[:, 1] - context, 0)
        ahead = flat[first[places[:, 0]] + places[:, 1]] - flat[first[places[:, 0]] + begin]
        keys[split] = _mixed(ahead * inverses[begin] + (places[:, 1] - begin).astype(np.uint64))
    return {
        f"{later}_examples_in_{earlier}": int(np.isin(keys[later], keys[earlier]).sum())
        for earlier, later in itertools.combinations(keys, 2)
    }


_FACTOR = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


def _row_hashes(values: Float64[np.ndarray, "time channels"]) -> UInt64[np.ndarray, " time"]:
    """64 bits for each row; different rows have different ones but by chance."""
    words = (np.ascontiguousarray(values, np.float64) + 0.0).view(np.uint64)  # -0 is 0
    hashes = np.zeros(len(words), np.uint64)
    for column in words.T:
        hashes = _mixed(hashes * np.uint64(_FACTOR) + column)
    return hashes


def _mixed(words: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Every bit depends on every bit (Stafford's variant 13 of the finaliser of MurmurHash3, as in SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _digests(inputs: Any) -> list[bytes]:
    """A digest of every row: 16 bytes, so that two different rows of a data set never share one by chance."""
    parts = [np.ascontiguousarray(part) for _, part in _parts("inputs", inputs)]
    lines = [part.reshape(len(part), -1).view(np.uint8) for part in parts]
    digests = []
    for row in zip(*lines, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for part in row:
            digest.update(part)
        digests.append(digest.digest())
    return digests


def _parts(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a value by name: itself, or those of a ``Padded`` or ``Pair`` of arrays."""
    if isinstance(value, tuple):
        for field, part in zip(value._fields, value, strict=True):  # type: ignore[attr-defined]
            yield from _parts(f"{name}.{field}", part)
    else:
        yield name, value
