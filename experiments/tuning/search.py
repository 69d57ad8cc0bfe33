"""Where points come from: quasi-random sequences, pseudo-random numbers, and grids.

A point is a number of [0, 1) for each space. Sobol and Halton sequences fill a cube more evenly than independent draws
do (Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points"; Bergstra and Bengio 2012, section 2.2, for their use
here); both are scrambled, by a seed that the caller fixes.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.spaces import Choice, Space
from models.base import BadInput

CHUNK = 64
"""Points that are made at a time; a power of two, as Sobol sequences are balanced for."""


def seed_of(*words: object) -> int:
    """A seed that the same words always give, below 2^32."""
    text = "\n".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def units(search: str, dimensions: int, seed: int) -> Iterator[Float[np.ndarray, " dimensions"]]:
    """Points of the unit cube without end.

    Args:
        search: sobol, halton or random.
        dimensions: of a point.
        seed: of the scrambling, or of the numbers.
    """
    draw = _generator(search, dimensions, seed)
    while True:
        yield from draw(CHUNK)


def _generator(search: str, dimensions: int, seed: int) -> Callable[[int], Float[np.ndarray, "count dimensions"]]:
    if search == "random":
        generator = np.random.default_rng(seed)
        return lambda count: generator.random((count, dimensions))
    from scipy.stats import qmc  # not above: it loads slowly

    sequence = {"sobol": qmc.Sobol, "halton": qmc.Halton}[search]
    return sequence(dimensions, scramble=True, rng=seed).random


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
