"""Which inputs an output depends on: its gradient, and integrated gradients.

Functions take a batch and give a number for each of its examples, none of which depends on another; so the gradient of
the sum holds the gradient of each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Score = Callable[[Float[Array, "batch ..."]], Float[Array, " batch"]]

MOST_STEPS = 512
"""Points of the path at the most."""


class Attribution(NamedTuple):
    """Integrated gradients.

    Attributes:
        values: what each input adds to the score, in the shape of the inputs.
        gap: how far their sum is from the difference of the scores that they explain, relative to that difference, of
            each example. Zero is what the axiom of completeness asks (Sundararajan et al. 2017, proposition 1).
        steps: points of the path.
    """

    values: Float[Array, "batch ..."]
    gap: Float[np.ndarray, " batch"]
    steps: int


def saliency(score: Score, inputs: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """The gradient of each example's score by its inputs (Simonyan et al. 2014, section 3; here with its sign)."""
    return jax.jit(jax.grad(lambda x: jnp.sum(score(x))))(inputs)


def integrated_gradients(
    score: Score, inputs: Float[Array, "batch ..."], start: Float[Array, "batch ..."], *, tolerance: float = 0.01
) -> Attribution:
    """``(x - x0) * integral over a from 0 to 1 of grad score(x0 + a (x - x0))`` (Sundararajan et al. 2017, equation 1).

    The integral is taken by the midpoint rule, whose points are doubled until no gap is above ``tolerance`` or there
    are :data:`MOST_STEPS`.

    Args:
        score: what is explained.
        inputs: x.
        start: x0, an input that says nothing.
        tolerance: relative gap that is good enough.
    """
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(score(x))))
    total = np.asarray(score(inputs) - score(start), np.float64)
    axes = tuple(range(1, inputs.ndim))
    steps = 32
    while True:
        points = (np.arange(steps) + 0.5) / steps
        mean = sum(gradient(start + jnp.float32(point) * (inputs - start)) for point in points) / steps
        values = (inputs - start) * mean
        reached = np.asarray(jnp.sum(values, axis=axes), np.float64)
        gap = np.abs(reached - total) / np.maximum(np.abs(total), 1e-6)
        if gap.max() <= tolerance or steps >= MOST_STEPS:
            return Attribution(values, gap, steps)
        steps *= 2
