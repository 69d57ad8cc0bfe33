"""Named random streams.

A stream's key is ``fold_in(fold_in(root, name), step)``: a pure function of the trial's seed, the
stream's name and the step. Adding a stream disturbs no other, and nothing has to be saved.
"""

import zlib

import jax
from jaxtyping import Array, Integer, Key

from models.layers import direct_random


def root(seed: Integer[Array, ""] | int) -> Key[Array, ""]:
    """The root key of a trial."""
    return jax.random.key(seed, impl=direct_random.implementation())


def stream(root: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of the stream called ``name`` (``init``, ``order``, ``dropout``, ...)."""
    return jax.random.fold_in(root, zlib.crc32(name.encode()))


def at(key: Key[Array, ""], step: Integer[Array, ""] | int) -> Key[Array, ""]:
    """The key of a stream at one step."""
    return jax.random.fold_in(key, step)
