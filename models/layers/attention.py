"""Scaled dot-product attention: masks, grouped heads, and the fused kernel of a GPU."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.layers import direct_attention
from models.layers.derivatives import is_twice_differentiable
from models.layers.direct_attention import Heads
from models.layers.partitioning import is_partitioned


def attention(
    queries: Float[Array, "batch queries heads key_size"],
    keys: Float[Array, "batch keys kv_heads key_size"],
    values: Float[Array, "batch keys kv_heads value_size"],
    *,
    causal: bool,
    mask: Bool[Array, "batch keys"] | None = None,
    positions: Int[Array, "batch queries"] | None = None,
    bias: Float[Array, "rows heads queries keys"] | None = None,
    drop: Callable[[Array], Array] | None = None,
    observe: Callable[[Array], None] | None = None,
) -> Float[Array, "batch queries heads value_size"]:
    """``softmax(Q K^T / sqrt(key_size) + bias) V`` (Vaswani et al. 2017, equation 1), for each head.

    With fewer heads of keys than of queries, consecutive heads of queries share one (Ainslie et al. 2023). Scores
    and softmax have at least 32 bits. What is not to be seen has weight exactly zero; a query that sees
    nothing at all gets zeros. On an NVIDIA GPU, in 16 bits and where nobody wants to see, change or bias the
    weights, cuDNN's fused kernel computes the same without ever holding them (Dao et al. 2022); on a CPU, in
    32 bits, machine code does it one head at a time (``layers/direct_attention.py``).

    Args:
        queries: what each position asks.
        keys: what each position offers.
        values: what it gives.
        causal: position t sees positions up to t only.
        mask: true at the keys that there are; the real ones come first. None where all are real.
        positions: where the queries stand, when that is not 0, 1, ...: each sees keys 0 to its own position.
        bias: added to the scores; one row for each sequence, or one for all.
        drop: dropout on the attention weights [batch, heads, queries, keys].
        observe: is given the weights, before dropout.
    """
    plain = positions is None and bias is None and drop is None and observe is None
    if plain and _fused_kernel_takes(queries, keys, values):
        return _fused(queries, keys, values, causal=causal, mask=mask)
    if plain and direct_attention.fits(queries, keys, values):
        real = jnp.full(len(keys), keys.shape[1]) if mask is None else jnp.sum(mask, axis=1)
        return _direct(queries, keys, values, real.astype(queries.dtype), causal)
    return _plain(queries, keys, values, causal, mask, positions, bias, drop, observe)


def takes_joined(x: Float[Array, "batch time width"], heads: Heads) -> bool:
    """Whether :func:`joined_attention` is to be taken at the positions of ``x``: where it saves copies."""
    joined = jax.ShapeDtypeStruct((*x.shape[:2], 0), x.dtype)
    return direct_attention.fits(*direct_attention.parts_of(joined, heads))


def joined_attention(
    joined: Float[Array, "batch time features"],
    heads: Heads,
    *,
    causal: bool,
    mask: Bool[Array, "batch time"] | None = None,
) -> Float[Array, "batch time heads value_size"]:
    """The same of a sequence to itself, by machine code that reads what one product for all of them has written.

    Args:
        joined: at each position the queries of all heads, then their keys, then their values.
        heads: their number and sizes.
        causal: position t sees positions up to t only.
        mask: true at the positions that there are; the real ones come first. None where all are real.
    """
    real = jnp.full(len(joined), joined.shape[1]) if mask is None else jnp.sum(mask, axis=1)
    return _joined(joined, real.astype(joined.dtype), heads, causal)


def _plain(
    queries: Array,
    keys: Array,
    values: Array,
    causal: bool,
    mask: Array | None = None,
    positions: Array | None = None,
    bias: Array | None = None,
    drop: Callable[[Array], Array] | None = None,
    observe: Callable[[Array], None] | None = None,
) -> Array:
    """The same in XLA's operations, with all that it can be asked for."""
    scores = _scores(queries, keys) * (1 / math.sqrt(queries.shape[-1]))
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    visible = _visible(queries.shape[1], keys.shape[1], causal, mask, positions)
    if visible is not None:
        scores = jnp.where(visible, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, axis=-1)
    if visible is not None and mask is not None:
        # A row without any visible key has equal weights up to here.
        weights = jnp.where(visible, weights, jnp.zeros((), weights.dtype))
    if observe is not None:
        observe(weights)
    weights = weights.astype(values.dtype)
    return _mix(weights if drop is None else drop(weights), values)


def _visible(
    queries: int, keys: int, causal: bool, mask: Array | None, positions: Array | None
) -> Bool[Array, "rows 1 queries_or_1 keys"] | None:
    """Which keys each query may see; None where it sees all."""
    visible = None
    if positions is not None:
        visible = jnp.arange(keys, dtype=positions.dtype)[None, None, None] <= positions[:, None, :, None]
    elif causal:
        visible = jnp.tril(jnp.ones((queries, keys), bool))[None, None]
    if mask is not None:
        real = mask[:, None, None, :]
        visible = real if visible is None else visible & real
    return visible


def _scores(queries: Array, keys: Array) -> Float[Array, "batch heads queries keys"]:
    """Inner products of each query with each key, in at least 32 bits."""
    dtype = jnp.promote_types(queries.dtype, jnp.float32)
    batch, time, heads, size = queries.shape
    groups = keys.shape[2]
    if groups == heads:
        return jnp.einsum("bqhd,bkhd->bhqk", queries, keys, preferred_element_type=dtype)
    grouped = queries.reshape(batch, time, groups, heads // groups, size)
    scores = jnp.einsum("bqgnd,bkgd->bgnqk", grouped, keys, preferred_element_type=dtype)
    return scores.reshape(batch, heads, time, keys.shape[1])


def _mix(weights: Array, values: Array) -> Float[Array, "batch queries heads value_size"]:
    """Sums of values by weights."""
    batch, heads, time, length = weights.shape
    groups, size = values.shape[2:]
    if groups == heads:
        return jnp.einsum("bhqk,bkhd->bqhd", weights, values)
    grouped = weights.reshape(batch, groups, heads // groups, time, length)
    return jnp.einsum("bgnqk,bkgd->bqgnd", grouped, values).reshape(batch, time, heads, size)


def _direct_forward(queries: Any, keys: Any, values: Any, real: Any, causal: bool) -> tuple[Any, Any]:
    """Attention and its weights transposed, [batch, heads, keys, queries]; ``real`` are the keys of each sequence."""
    here = functools.partial(direct_attention.value, causal=causal)
    elsewhere = functools.partial(_value_elsewhere, causal=causal)
    out, weights = jax.lax.platform_dependent(queries, keys, values, real, cpu=here, default=elsewhere)
    return out, (queries, keys, values, weights, real)


def _direct_backward(causal: bool, residuals: Any, g: Any) -> tuple[Any, ...]:
    *arrays, real = residuals
    here = functools.partial(direct_attention.gradients, causal=causal)
    gradients = jax.lax.platform_dependent(*arrays, g, cpu=here, default=_gradients_elsewhere)
    return *gradients, jnp.zeros_like(real)


def _value_elsewhere(queries: Any, keys: Any, values: Any, real: Any, *, causal: bool) -> tuple[Any, Any]:
    """What machine code computes, in XLA's operations."""
    found: list[Array] = []
    mask = jnp.arange(keys.shape[1], dtype=real.dtype)[None] < real[:, None]
    out = _plain(queries, keys, values, causal, mask, observe=found.append)
    return out, jnp.swapaxes(found[0], 2, 3)


def _gradients_elsewhere(queries: Any, keys: Any, values: Any, weights: Any, g: Any) -> tuple[Any, Any, Any]:
    weights = jnp.swapaxes(weights, 2, 3)
    slopes = jnp.einsum("bqhd,bkhd->bhqk", g, values)
    slopes = weights * (slopes - jnp.sum(weights * slopes, axis=-1, keepdims=True))
    slopes = slopes * (1 / math.sqrt(queries.shape[-1]))
    return (
        jnp.einsum("bhqk,bkhd->bqhd", slopes, keys),
        jnp.einsum("bhqk,bqhd->bkhd", slopes, queries),
        jnp.einsum("bhqk,bqhd->bkhd", weights, g),
    )


_direct = jax.custom_vjp(lambda *arguments: _direct_forward(*arguments)[0], nondiff_argnums=(4,))
_direct.defvjp(_direct_forward, _direct_backward)


def _joined_forward(joined: Any, real: Any, heads: Heads, causal: bool) -> tuple[Any, Any]:
    """Attention of queries, keys and values that lie beside each other at each position."""

    def elsewhere(joined: Array, real: Array) -> tuple[Array, Array]:
        return _value_elsewhere(*_apart(joined, heads), real, causal=causal)

    here = functools.partial(direct_attention.joined_value, heads=heads, causal=causal)
    out, weights = jax.lax.platform_dependent(joined, real, cpu=here, default=elsewhere)
    return out, (joined, weights, real)


def _joined_backward(heads: Heads, causal: bool, residuals: Any, g: Any) -> tuple[Any, Any]:
    joined, weights, real = residuals

    def elsewhere(joined: Array, weights: Array, g: Array) -> Array:
        gradients = _gradients_elsewhere(*_apart(joined, heads), weights, g)
        return jnp.concatenate([each.reshape(*joined.shape[:2], -1) for each in gradients], axis=-1)

    here = functools.partial(direct_attention.joined_gradient, heads=heads, causal=causal)
    return jax.lax.platform_dependent(joined, weights, g, cpu=here, default=elsewhere), jnp.zeros_like(real)


def _apart(joined: Any, heads: Heads) -> tuple[Any, Any, Any]:
    """Queries, keys and values, [batch, time, heads, size]."""
    parts = jnp.split(joined, [heads.count * heads.key, 2 * heads.count * heads.key], axis=-1)
    queries, keys, values = (each.reshape(*joined.shape[:2], heads.count, -1) for each in parts)
    return queries, keys, values


_joined = jax.custom_vjp(lambda *arguments: _joined_forward(*arguments)[0], nondiff_argnums=(2, 3))
_joined.defvjp(_joined_forward, _joined_backward)


def _fused_kernel_takes(queries: Array, keys: Array, values: Array) -> bool:
    """Whether cuDNN's fused kernel computes attention of these shapes and number formats here.

    Read from the machine while the program is traced: JAX asks cuDNN for its version then, so that the
    kernel cannot be put into a program on a machine without one. A program traced on such a machine and
    exported for a GPU has the plain form.
    """
    size = queries.shape[-1]
    fits = queries.dtype in (jnp.bfloat16, jnp.float16) and size == values.shape[-1] and size % 8 == 0 and size <= 128
    if not fits or queries.dtype != keys.dtype or jax.default_backend() != "gpu":
        return False
    if is_twice_differentiable() or is_partitioned():
        return False
    device = jax.local_devices()[0]
    # "8.0" is the first generation that has the kernel; AMD's names are no numbers.
    generation = str(getattr(device, "compute_capability", "")).split(".")[0]
    return generation.isdigit() and int(generation) >= 8


def _fused(
    queries: Array, keys: Array, values: Array, *, causal: bool, mask: Array | None
) -> Float[Array, "batch queries heads value_size"]:
    """The same by cuDNN's kernel."""
    if mask is None:
        return jax.nn.dot_product_attention(queries, keys, values, is_causal=causal, implementation="cudnn")
    lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
    mixed = jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        is_causal=causal,
        key_value_seq_lengths=jnp.maximum(lengths, 1),
        implementation="cudnn",
    )
    return jnp.where((lengths > 0)[:, None, None, None], mixed, jnp.zeros((), mixed.dtype))
