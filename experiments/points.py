"""Points of the unit cube: quasi-random sequences and pseudo-random numbers.

Sobol and Halton sequences fill a cube more evenly than independent draws do (Owen 1998, "Scrambling Sobol' and
Niederreiter-Xing points"; Bergstra and Bengio 2012, section 2.2, for their use here); both are scrambled, by a
seed that the caller fixes.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from models.base import BadInput

METHODS = ("sobol", "halton", "random")
CHUNK = 64
"""Points that are made at a time; a power of two, as Sobol sequences are balanced for."""


def points(method: str, dimensions: int, seed: int) -> Iterator[Float[np.ndarray, " dimensions"]]:
    """Points of the unit cube without end.

    Args:
        method: sobol, halton or random.
        dimensions: of a point.
        seed: of the scrambling, or of the numbers.

    Raises:
        BadInput: an unknown method.
    """
    if method not in METHODS:
        raise BadInput(f"method={method!r} must be one of {', '.join(METHODS)}")
    draw = _generator(method, dimensions, seed)
    while True:
        yield from draw(CHUNK)


def _generator(method: str, dimensions: int, seed: int) -> Callable[[int], Float[np.ndarray, "count dimensions"]]:
    if method == "random":
        generator = np.random.default_rng(seed)
        return lambda count: generator.random((count, dimensions))
    from scipy.stats import qmc  # not above: it loads slowly

    sequence = {"sobol": qmc.Sobol, "halton": qmc.Halton}[method]
    return sequence(dimensions, scramble=True, rng=seed).random
