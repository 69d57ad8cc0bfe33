"""Scaled dot-product attention."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attention(
    queries: Float[Array, "batch queries heads head_dim"],
    keys: Float[Array, "batch keys heads head_dim"],
    values: Float[Array, "batch keys heads value_dim"],
    *,
    causal: bool,
    drop: Callable[[Array], Array] = lambda weights: weights,
) -> Float[Array, "batch queries heads value_dim"]:
    """``softmax(Q K^T / sqrt(head_dim)) V`` (Vaswani et al. 2017, equation 1), for each head.

    Args:
        queries: what each position asks.
        keys: what each position offers.
        values: what it gives.
        causal: position t sees positions up to t only.
        drop: dropout on the attention weights [batch, heads, queries, keys].
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) * (1 / math.sqrt(queries.shape[-1]))
    if causal:
        visible = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
        scores = jnp.where(visible, scores, jnp.finfo(scores.dtype).min)
    return jnp.einsum("bhqk,bkhd->bqhd", drop(jax.nn.softmax(scores, axis=-1)), values)
