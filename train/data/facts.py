"""What a record says of the data that a trial was trained on."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from train.data.files import Packaged, Remote
from train.data.task import Arrays


def facts(
    files: Sequence[Remote | Packaged], *, sizes: Mapping[str, int], splits: Mapping[str, Arrays]
) -> dict[str, str | int]:
    """Source, licence, sizes and fingerprint of a data set.

    Args:
        files: where the data come from.
        sizes: what there is to count, e.g. ``{"train_examples": 3500}``.
        splits: the arrays of every split by its name.
    """
    return {
        "source": " ".join(dict.fromkeys(file.urls[0] for file in files)),
        "licence": "; ".join(dict.fromkeys(file.licence for file in files)),
        **sizes,
        "fingerprint": fingerprint(splits),
    }


def fingerprint(splits: Mapping[str, Arrays]) -> str:
    """sha256 over the name, type, shape and bytes of every array, in the order of the names."""
    digest = hashlib.sha256()
    for split, arrays in sorted(splits.items()):
        for name, array in sorted(arrays.items()):
            digest.update(f"{split} {name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
