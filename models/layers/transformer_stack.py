"""A stack of Transformer blocks: positions, blocks in a row or scanned over, and reading step by step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Num

from models.base import SCANNED, BadInput
from models.inputs import Padded, unpad
from models.layers import positions as order
from models.layers.dropout import Dropout
from models.layers.recording import COLLECTION, record
from models.layers.transformer_blocks import Block, Context, KeysValues
from models.layers.transformer_config import TABLE_INIT, StackConfig, norm, sizes

Blocks = tuple[KeysValues, ...] | KeysValues
"""Keys and values of every block: one for each, or stacked along axis 1 where the blocks are scanned over."""


class Carry(NamedTuple):
    """What a decoder has read so far. The batch is the first axis of every array.

    Attributes:
        position: how many positions of each sequence have been read.
        caches: keys and values at all positions that there may be; zeros at those to come.
        memory: keys and values of the source, where there is a source.
        memory_mask: the source's real positions, where some are not.
    """

    position: Int[Array, " batch"]
    caches: Blocks
    memory: Blocks | None = None
    memory_mask: Bool[Array, "batch source"] | None = None


class Stack(nn.Module):
    """Adds positions, then applies the blocks, then with pre-normalisation a last norm.

    Attributes:
        config: the options.
        length: most positions, where those are learned.
        causal: a position sees those up to itself only.
        cross: the blocks attend to a source.
    """

    config: StackConfig
    length: int
    causal: bool
    cross: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch time width"],
        context: Context,
        *,
        train: bool,
        caches: Blocks | None = None,
        memory: Blocks | None = None,
    ) -> tuple[Float[Array, "batch time width"], Blocks | None]:
        """The outputs, and the caches with these positions.

        Args:
            x: embedded inputs.
            context: what all blocks are given.
            train: whether to drop.
            caches: what has been read before, for reading step by step.
            memory: keys and values of the source.

        Raises:
            BadInput: there are more positions than vectors of positions.
        """
        config = self.config
        rate = context.rate
        x = self._placed(x, context, caches)
        if config.embedding_norm:
            x = norm(config, "embedding_norm")(x)
        x = Dropout(name="dropout_input")(x, rate, train=train)
        record(self, "embedded", lambda: x)
        dropping = train and not (isinstance(rate, int | float) and rate == 0)
        branches = 1 + self.cross + bool(config.feedforward)
        options = (config, self.causal, dropping, config.depth * branches)
        block: Any = nn.remat(Block, prevent_cse=not config.scan_layers) if config.remat else Block
        if config.scan_layers:
            axes: Any = (nn.broadcast, 1, 1)  # of context, caches, memory
            scan = nn.scan(
                block,
                variable_axes={"params": 0, COLLECTION: 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=axes,
                out_axes=1,
                length=config.depth,
            )
            x, caches = scan(*options, name=SCANNED)(x, context, caches, memory)
        else:
            extended = []
            for index in range(config.depth):
                layer = (None if part is None else part[index] for part in (caches, memory))
                x, cache = block(*options, name=f"block_{index}")(x, context, *layer)
                extended.append(cache)
            caches = None if caches is None else tuple(extended)
        return (norm(config, "norm")(x) if config.norm_position == "pre" else x), caches

    def _placed(self, x: Array, context: Context, caches: Blocks | None) -> Array:
        """The inputs with their positions' vectors added, where the configuration has such."""
        config, time = self.config, x.shape[1]
        most = time if caches is None else jax.tree.leaves(caches)[0].shape[-3]
        if config.positions == "learned":
            check_length(config, most, self.length)
            table = self.param("positions", TABLE_INIT, (self.length, config.width))
        elif config.positions == "sinusoidal":
            table = jnp.asarray(order.sinusoidal(most, config.width), x.dtype)
        else:
            return x
        return x + (table[None, :time] if caches is None else jnp.take(table, context.positions, axis=0, mode="clip"))


def check_length(config: StackConfig, time: int, most: int) -> None:
    """Raise :class:`BadInput` when a sequence is longer than there are vectors of positions."""
    if config.positions == "learned" and time > most:
        raise BadInput(
            f"a sequence of {time} positions is longer than the {most} learned ones; "
            "positions=sinusoidal, rotary, alibi or none read any length"
        )


def context_of(time: int, rate: Any, mask: Array | None, carry: Carry | None) -> Context:
    """What the blocks are given to read ``time`` positions, the first ones or those after ``carry``."""
    positions = jnp.arange(time, dtype=jnp.int32)[None]
    if carry is None:
        return Context(rate, positions, mask)
    return Context(rate, carry.position[:, None] + positions, mask, carry.memory_mask)


def advanced(carry: Carry, caches: Blocks | None, time: int, mask: Array | None) -> Carry:
    """The carry after ``time`` more positions, of which the mask tells the real ones."""
    read = time if mask is None else jnp.sum(mask, axis=1, dtype=jnp.int32)
    return carry._replace(position=carry.position + read, caches=caches)


def empty_caches(config: StackConfig, batch: int, length: int, dtype: Any) -> Blocks:
    """Caches of ``length`` positions, of which none has been read."""
    size = sizes(config)

    def one(*layers: int) -> KeysValues:
        shape = (batch, *layers, length, size.kv_heads)
        return KeysValues(jnp.zeros((*shape, size.key), dtype), jnp.zeros((*shape, size.value), dtype))

    return one(config.depth) if config.scan_layers else tuple(one() for _ in range(config.depth))


def split_memory(config: StackConfig, projected: Float[Array, "batch source features"]) -> Blocks:
    """Keys and values of each block from one product for all: for each block its keys, then its values."""
    size = sizes(config)
    shape = (*projected.shape[:2], config.depth, size.kv_heads * (size.key + size.value))
    keys, values = jnp.split(projected.reshape(shape), [size.kv_heads * size.key], axis=-1)

    def by_block(x: Array, features: int) -> Array:
        return jnp.moveaxis(x.reshape(*x.shape[:3], size.kv_heads, features), 2, 1)

    stacked = KeysValues(by_block(keys, size.key), by_block(values, size.value))
    if config.scan_layers:
        return stacked
    return tuple(KeysValues(stacked.keys[:, i], stacked.values[:, i]) for i in range(config.depth))


def clean(inputs: Num[Array, "batch time *features"] | Padded) -> tuple[Array, Array | None]:
    """Values and mask of inputs, with zeros at padded positions: what stood there reaches nothing, not even as nan."""
    values, mask = unpad(inputs)
    if mask is None:
        return values, None
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (values.ndim - 2)), values, jnp.zeros((), values.dtype)), mask
