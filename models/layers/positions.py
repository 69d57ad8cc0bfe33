"""Positions: sines and cosines added, queries and keys turned, scores that fall with distance."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

BASE = 10_000
"""The longest wavelength is 2 pi times this (Vaswani et al. 2017, section 3.5; Su et al. 2021, section 3.2.2)."""


def sinusoidal(length: int, width: int) -> np.ndarray:
    """The table ``P[t, 2i] = sin(t / 10000^(2i / width))``, ``P[t, 2i + 1]`` the cosine of the same.

    Vaswani et al. 2017, section 3.5. In 64 bits, [length, width]; the width is even.
    """
    angles = np.arange(length)[:, None] / BASE ** (np.arange(0, width, 2) / width)[None]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def rotate(
    x: Float[Array, "batch time heads size"], positions: Int[Array, "rows time"]
) -> Float[Array, "batch time heads size"]:
    """Rotary positions: component pair i of a vector at position t is turned by ``t / 10000^(2i / size)``.

    Su et al. 2021, "RoFormer", equations 14 and 34. The product of a turned query and a turned key
    depends on the distance of their positions alone. The paper turns the components 2i and 2i + 1
    together, Paribus i and i + size / 2: another order of a query's components, which their learned
    projection takes as well, and no strided access.

    Args:
        x: queries or keys; their size is even.
        positions: of each sequence, or one row for all.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    half = x.shape[-1] // 2
    rates = jnp.asarray(BASE ** (-np.arange(half) / half), dtype)
    angles = (positions.astype(dtype)[..., None] * rates[None, None])[:, :, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(dtype), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def slopes(heads: int) -> np.ndarray:
    """ALiBi's slope of each head: ``2^(-8 h / heads)`` for h = 1, ..., heads.

    Press et al. 2022, section 3. Their code takes other values where the heads are no power of two;
    here the formula of the paper holds for every number.
    """
    return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)


def alibi(heads: int, queries: Int[Array, "rows queries"], keys: int) -> Float[Array, "rows heads queries keys"]:
    """What ALiBi adds to the scores: ``-slope |t - s|`` for a query at t and a key at s.

    Press et al. 2022, section 3, treats s <= t. To a block that sees both sides, both are as far.

    Args:
        heads: number of heads.
        queries: position of each query, of each sequence or one row for all.
        keys: number of keys, at positions 0, 1, ...
    """
    distance = jnp.abs(queries[:, :, None] - jnp.arange(keys, dtype=queries.dtype)[None, None])
    dtype = jnp.asarray(0.0).dtype  # 64 bits where they are enabled
    return -jnp.asarray(slopes(heads), dtype)[None, :, None, None] * distance.astype(dtype)[:, None]
