"""What a record says of the data that a trial was trained on."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

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
