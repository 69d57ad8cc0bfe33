"""The seeds of a search, and grids; the points of the other searches are those of ``experiments.points``."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.spaces import Choice, Space
from models.base import BadInput


def seed_of(*words: object) -> int:
    """A seed that the same words always give, below 2^32."""
    text = "\n".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def grid(spaces: Mapping[str, Space], most: int) -> Iterator[dict[str, Any]]:
    """Every combination of evenly spread values, as many of each range as make at most ``most`` of them.

    Args:
        spaces: by path.
        most: combinations.

    Raises:
        BadInput: there are more even with two values of each range.
    """
    levels = list(_levels(list(spaces.values()), most))
    for combination in itertools.product(*levels):
        yield dict(zip(spaces, combination, strict=True))


def _levels(spaces: Sequence[Space], most: int) -> list[tuple[Any, ...]]:
    """The values of each space: ranges get one more in turn, as long as the product allows it."""
    counts = [2] * len(spaces)

    def size(counts: Sequence[int]) -> int:
        return math.prod(len(space.levels(count)) for space, count in zip(spaces, counts, strict=True))

    if size(counts) > most:
        raise BadInput(f"tuning: a grid of these spaces has at least {size(counts)} points, and trials={most}")
    growing = [index for index, space in enumerate(spaces) if not isinstance(space, Choice)]
    while growing:
        for index in list(growing):
            more = [count + (place == index) for place, count in enumerate(counts)]
            if size(more) > most or len(spaces[index].levels(counts[index] + 1)) < counts[index] + 1:
                growing.remove(index)
            else:
                counts = more
    return [space.levels(count) for space, count in zip(spaces, counts, strict=True)]
