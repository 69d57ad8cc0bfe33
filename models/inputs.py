"""Inputs that are more than one array: sequences of different length, and pairs of sequences."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num


class Padded(NamedTuple):
    """Sequences of different length in one array.

    What stands at a padded position changes no output at a real one, and no gradient.

    Attributes:
        values: tokens [batch, time] or features [batch, time, features].
        mask: true at real positions. They come first: a sequence of length n is true at 0 to n - 1.
    """

    values: Num[Array, "batch time *features"]
    mask: Bool[Array, "batch time"]


class Pair(NamedTuple):
    """A source sequence and the target sequence that a decoder reads while it predicts the next token.

    Attributes:
        source: what is translated.
        target: the begin symbol and the target without its last token.
    """

    source: Padded
    target: Padded


def unpad(inputs: Array | Padded) -> tuple[Array, Array | None]:
    """The values and the mask of inputs; the mask is None where every position is real."""
    return (inputs.values, inputs.mask) if isinstance(inputs, Padded) else (inputs, None)


def filled(inputs: Array | Padded) -> Array:
    """The inputs as one array of one length, 0 where they are padded: for models that know no lengths."""
    values, mask = unpad(inputs)
    if mask is None:
        return values
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (values.ndim - 2)), values, jnp.zeros((), values.dtype))
