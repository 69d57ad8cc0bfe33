"""The Transformer block: of encoders, of decoders, and of decoders that read a source."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from models.layers import positions as order
from models.layers.activations import GATED, activation
from models.layers.attention import attention, joined_attention, takes_joined
from models.layers.dense import Dense, HeadsDense
from models.layers.direct_attention import Heads
from models.layers.dropout import Dropout
from models.layers.partitioning import by_batch, by_head
from models.layers.recording import COLLECTION, record
from models.layers.transformer_config import StackConfig, kernel_init, norm, sizes


class KeysValues(NamedTuple):
    """Keys [batch, time, kv_heads, key_size] and values [batch, time, kv_heads, value_size] of one block.

    Of all blocks together, where those are scanned over: [batch, depth, time, ...].
    """

    keys: Array
    values: Array


class Context(NamedTuple):
    """What all blocks of a stack are given alike.

    Attributes:
        rate: dropout rate.
        positions: of the inputs, of each sequence or one row for all.
        mask: real positions of the inputs; None where all are.
        memory_mask: real positions of the source.
    """

    rate: Any
    positions: Int[Array, "rows time"]
    mask: Bool[Array, "batch time"] | None = None
    memory_mask: Bool[Array, "batch source"] | None = None


class Block(nn.Module):
    """Attention, attention to a source where there is one, and a perceptron; each a residual branch.

    ``x + branch(norm(x))``, or ``norm(x + branch(x))`` with post-normalisation.

    Attributes:
        config: the options.
        causal: a position sees those up to itself only.
        dropping: whether dropout is in the program.
        branches: residual branches of the whole stack.
    """

    config: StackConfig
    causal: bool
    dropping: bool
    branches: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch time width"],
        context: Context,
        cache: KeysValues | None = None,
        memory: KeysValues | None = None,
    ) -> tuple[Float[Array, "batch time width"], KeysValues | None]:
        """One block: the outputs, and the cache with the keys and values of these inputs.

        Args:
            x: inputs.
            context: what all blocks are given.
            cache: keys and values of the positions before, for reading step by step.
            memory: keys and values of the source.
        """
        pre = self.config.norm_position == "pre"

        def normed(x: Array, name: str, wanted: bool) -> Array:
            return norm(self.config, name)(x) if wanted else x

        x = by_batch(x)
        mixed, cache = self._attend(normed(x, "norm_1", pre), context, cache)
        x = normed(x + self._drop(mixed, context, "dropout_attention"), "norm_1", not pre)
        if memory is not None:
            mixed = self._attend_to_source(normed(x, "norm_cross", pre), context, memory)
            x = normed(x + self._drop(mixed, context, "dropout_cross_attention"), "norm_cross", not pre)
        if self.config.feedforward:
            hidden = self._perceptron(normed(x, "norm_2", pre))
            x = normed(x + self._drop(hidden, context, "dropout_feedforward"), "norm_2", not pre)
        record(self, "residual", lambda: x)
        return by_batch(x), cache

    def _drop(self, x: Array, context: Context, name: str) -> Array:
        return Dropout(name=name)(x, context.rate, train=self.dropping)

    def _dense(self, features: int, name: str) -> Dense:
        return Dense(features, kernel_init=kernel_init(self.config), use_bias=self.config.use_bias, name=name)

    def _dense_out(self, name: str, heads: int | None = None) -> Dense:
        """A layer that writes into the residual stream."""
        scale = 1 / math.sqrt(self.branches) if self.config.scale_residual else 1.0
        init = kernel_init(self.config, scale)
        return Dense(self.config.width, kernel_init=init, use_bias=self.config.use_bias, heads=heads, name=name)

    def _attend(self, x: Array, context: Context, cache: KeysValues | None) -> tuple[Array, KeysValues | None]:
        """Attention of the sequence to itself."""
        config, size = self.config, sizes(self.config)
        groups = ((config.heads, size.key), (size.kv_heads, size.key), (size.kv_heads, size.value))
        project = HeadsDense(groups, config.use_bias, kernel_init(config), name="queries_keys_values")
        hooks = self._hooks("attention_weights", "dropout_weights", context)
        out = self._dense_out("attention_out", config.heads)
        changed = config.qk_norm or config.positions in ("rotary", "alibi")
        if cache is None and not (changed or hooks) and size.kv_heads == config.heads:
            heads = Heads(config.heads, size.key, size.value)
            if takes_joined(x, heads):
                (joined,) = project(x, joined=True)
                mixed = joined_attention(joined, heads, causal=self.causal, mask=context.mask)
                return out(mixed.reshape(*x.shape[:2], -1)), None
        queries, keys, values = project(x)
        if config.qk_norm:
            queries, keys = norm(config, "norm_queries")(queries), norm(config, "norm_keys")(keys)
        if config.positions == "rotary":
            queries, keys = order.rotate(queries, context.positions), order.rotate(keys, context.positions)
        if cache is not None:
            cache = extend(cache, keys, values, context)
            keys, values = cache
        bias = order.alibi(config.heads, context.positions, keys.shape[1]) if config.positions == "alibi" else None
        mixed = attention(
            queries,
            keys,
            values,
            causal=self.causal,
            mask=context.mask if cache is None else None,
            positions=None if cache is None else context.positions,
            bias=bias,
            **hooks,
        )
        return out(mixed.reshape(*x.shape[:2], -1)), cache

    def _attend_to_source(self, x: Array, context: Context, memory: KeysValues) -> Array:
        """Attention of the sequence to its source (Vaswani et al. 2017, section 3.2.3)."""
        config, size = self.config, sizes(self.config)
        queries = self._dense(config.heads * size.key, "cross_queries")(x)
        queries = by_head(queries.reshape(*x.shape[:2], config.heads, size.key))
        keys = memory.keys
        if config.qk_norm:
            queries, keys = norm(config, "norm_cross_queries")(queries), norm(config, "norm_cross_keys")(keys)
        mixed = attention(
            queries,
            keys,
            memory.values,
            causal=False,
            mask=context.memory_mask,
            **self._hooks("cross_attention_weights", "dropout_cross_weights", context),
        )
        return self._dense_out("cross_attention_out", config.heads)(mixed.reshape(*x.shape[:2], -1))

    def _hooks(self, name: str, dropout_name: str, context: Context) -> dict[str, Any]:
        """What attention does with its weights: dropout, and recording when somebody asks for them."""
        hooks: dict[str, Any] = {}
        if self.dropping:
            drop = Dropout(name=dropout_name)
            hooks["drop"] = lambda weights: drop(weights, context.rate, train=True)
        if self.is_mutable_collection(COLLECTION):
            hooks["observe"] = lambda weights: record(self, name, lambda: weights)
        return hooks

    def _perceptron(self, x: Array) -> Array:
        """The perceptron at each position (Vaswani et al. 2017, equation 2)."""
        config = self.config
        hidden = config.feedforward * (2 if config.activation in GATED else 1)
        hidden = activation(config.activation)(self._dense(hidden, "feedforward_in")(x))
        record(self, "feedforward_activations", lambda: hidden)
        return self._dense_out("feedforward_out")(hidden)


def extend(cache: KeysValues, keys: Array, values: Array, context: Context) -> KeysValues:
    """The cache with the keys and values of the next positions; those beyond its end and padding are left out."""
    at = context.positions
    if context.mask is not None:
        at = jnp.where(context.mask, at, cache.keys.shape[1])
    rows = jnp.arange(keys.shape[0], dtype=at.dtype)[:, None]
    return jax.tree.map(lambda old, new: old.at[rows, at].set(new, mode="drop"), cache, KeysValues(keys, values))
