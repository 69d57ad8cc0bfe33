"""Sums over very many batches in 32-bit floats, exact to about 48 bits.

A sum of float32 stops counting at 2^24, and its error grows with the number of its terms. Here each sum is a
pair whose parts are added up afterwards in float64: the rounded sum, and what rounding left (double-float
arithmetic: Dekker 1971, section 4; the error of one addition: Knuth, TAOCP 2, section 4.2.2, theorem B). Whole
numbers stay exact up to 2^47.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Total(NamedTuple):
    """A sum: ``value + rest``, where ``rest`` is at most half a unit in the last place of ``value``."""

    value: Any
    rest: Any


def zero(shape: tuple[int, ...], dtype: Any) -> Total:
    """The empty sum."""
    return Total(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def add(total: Total, term: Any) -> Total:
    """The sum with one more term, of the same shape and type."""
    value, error = _sum(total.value, term)
    rest = total.rest + error
    whole, left = _sum(value, rest)
    finite = jnp.isfinite(whole)  # what is infinite has an error that is NaN
    return Total(jnp.where(finite, whole, value), jnp.where(finite, left, 0))


def _sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The rounded sum, and the error of the rounding, exactly."""
    rounded = a + b
    part = rounded - a
    return rounded, (a - (rounded - part)) + (b - part)
