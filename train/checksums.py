"""Checksums of arrays: of what lies on the host, and of what is cut over devices, where it lies.

Of an array's words of 32 bits, ``w_i`` in their order, they are ``sum w_i`` and ``sum (2 i + 1) w_i``, both modulo
2^32: each word counts, and so does its place. Whole numbers add up to the same in any order and in any parts.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
"""By the bytes of an element: what it is read as. One of eight bytes is two words, the lower one first."""

_PART = 2**20
"""Words that are added up at a time on the host: few enough for the cache."""


def checksums(arrays: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The two sums of each array, by name.

    Args:
        arrays: all NumPy's, or all on devices.
    """
    if all(isinstance(array, np.ndarray) for array in arrays.values()):
        return {name: _on_host(array) for name, array in arrays.items()}
    found = jax.jit(lambda arrays: {name: _on_devices(array) for name, array in arrays.items()})(dict(arrays))
    return {name: (int(total), int(placed)) for name, (total, placed) in found.items()}


def _on_host(array: np.ndarray) -> tuple[int, int]:
    words = np.ascontiguousarray(array).reshape(-1).view(_WORDS[array.dtype.itemsize])
    total = placed = 0
    for start in range(0, len(words), _PART):
        part = words[start : start + _PART].astype(np.uint32)
        places = np.arange(start, start + len(part), dtype=np.uint64).astype(np.uint32)
        total += int(part.sum(dtype=np.uint32))
        placed += int((part * (2 * places + np.uint32(1))).sum(dtype=np.uint32))
    return total % 2**32, placed % 2**32


def _on_devices(array: Any) -> tuple[Any, Any]:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(array, _WORDS[array.dtype.itemsize]).astype(jnp.uint32)
    places = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        places += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(words, dtype=jnp.uint32), jnp.sum(words * (2 * places + 1), dtype=jnp.uint32)
