"""Transformers that read one sequence: encoder (BERT-like), decoder (GPT-like), image patches (ViT)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Num

from models.base import BadInput, Shapes, Static
from models.inputs import Padded
from models.layers.activations import gelu
from models.layers.dense import Dense
from models.layers.embeddings import Embedding
from models.layers.transformer_config import TABLE_INIT, StackConfig, kernel_init, norm, table_init
from models.layers.transformer_stack import Carry, Stack, advanced, check_length, clean, context_of, empty_caches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StackConfig):
    """A Transformer (Vaswani et al. 2017); the defaults have pre-normalisation and learned positions.

    It is a causal decoder as GPT-2 (Radford et al. 2019) where the task is causal, otherwise an encoder: with one
    output a position, or with one for the whole sequence.

    The options of the blocks are those of :class:`models.layers.transformer_config.StackConfig`. GPT-2 has
    ``initialisation=gpt2``, ``tie_embeddings=true``; BERT ``activation=gelu``, ``norm_position=post``,
    ``embedding_norm=true``, ``initialisation=gpt2``, ``scale_residual=false``, ``segments=2`` and
    ``head=masked_language_model`` with ``tie_embeddings=true``, or ``pooling=first``; ViT ``activation=gelu``
    and ``pooling=class_token``. The epsilon of all norms is 1e-5 (BERT: 1e-12, ViT: 1e-6). BERT draws its weights
    from a truncated normal, Paribus from a normal.

    Attributes:
        patch_size: side of the square patches that an image is cut into (Dosovitskiy et al. 2021). Positions
            number them row by row.
        tie_embeddings: the output layer is the embedding's table (Press and Wolf 2017).
        pooling: what the logits of a whole sequence are made from. ``mean``: the average of its real
            positions. ``first``: the first position, [CLS] of the task's own making, through a dense
            layer and tanh (Devlin et al. 2019, as released). ``class_token``: a learned vector that is put before the
            sequence, without another layer (Dosovitskiy et al. 2021, equations 1 and 4).
        head: what makes logits of a position. ``linear``: a dense layer without bias.
            ``masked_language_model``: dense, GELU, norm, and a dense layer with bias (Devlin et al. 2019, as released).
        segments: vectors of segments, added to those of tokens (Devlin et al. 2019, section 3); 0 is none.
        separator: the token that ends a segment ([SEP]) and belongs to it; segments after the last vector
            have the last. None: everything is the first segment.
    """

    patch_size: Annotated[int, Static(ge=1)] = 4
    tie_embeddings: Annotated[bool, Static()] = False
    pooling: Annotated[Literal["mean", "first", "class_token"], Static()] = "mean"
    head: Annotated[Literal["linear", "masked_language_model"], Static()] = "linear"
    segments: Annotated[int, Static(ge=0)] = 0
    separator: Annotated[int | None, Static(ge=0)] = None


def patches(images: Float[Array, "batch height width channels"], size: int) -> Float[Array, "batch patches values"]:
    """Images cut into squares of side ``size``, row by row, each square flattened."""
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // size, size, width // size, size, channels)
    return jnp.transpose(grid, (0, 1, 3, 2, 4, 5)).reshape(batch, -1, size * size * channels)


class Transformer(nn.Module):
    """Embedding and positions, blocks, final normalisation, logits.

    Records ``embedded``, what the first block is given, and ``block_i/residual``, ``block_i/attention_weights``
    [batch, heads, queries, keys], ``block_i/feedforward_activations``; of scanned blocks ``blocks/...``, with an axis
    of blocks in front.
    """

    config: Config
    shapes: Shapes

    def setup(self) -> None:
        """Make the layers. The stack's parameters stand beside those of this module."""
        config, shapes = self.config, self.shapes
        init = kernel_init(config)
        if shapes.vocabulary is not None:
            self.tokens = Embedding(shapes.vocabulary, config.width, table_init(config))
        else:
            self.project = Dense(config.width, kernel_init=init, use_bias=config.use_bias)
        if config.segments:
            self.segments = Embedding(config.segments, config.width, TABLE_INIT)
        self.stack = Stack(config, _positions(config, shapes), shapes.causal)
        nn.share_scope(self, self.stack)
        if config.pooling == "class_token":
            self.class_token = self.param("class_token", nn.initializers.zeros_init(), (config.width,))
        if config.pooling == "first":
            self.pooler = Dense(config.width, kernel_init=init)
        masked = config.head == "masked_language_model"
        if masked:
            self.head_dense = Dense(config.width, kernel_init=init)
            self.head_norm = norm(config, None)
        if not config.tie_embeddings:
            self.logits = Dense(shapes.outputs, use_bias=masked or not shapes.per_position, kernel_init=init)
        elif masked:
            self.logits_bias = self.param("logits_bias", nn.initializers.zeros_init(), (shapes.outputs,))

    def start(self, source: int, *, length: int) -> Carry:
        """What ``source`` sequences of at most ``length`` positions begin from.

        Raises:
            BadInput: the model is not causal, or has fewer positions.
        """
        if not self.shapes.causal:
            raise BadInput("model 'transformer' reads step by step only where the task is causal")
        check_length(self.config, length, self.stack.length)
        dtype = jax.tree.leaves(self.variables["params"])[0].dtype
        return Carry(jnp.zeros((source,), jnp.int32), empty_caches(self.config, source, length, dtype))

    def __call__(
        self,
        inputs: Num[Array, "batch time *features"] | Padded,
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
        carry: Carry | None = None,
    ) -> Any:
        """Logits [batch, outputs], or [batch, time, outputs] for a task of one output a position.

        With a carry the inputs are the positions after it, and the result is ``(logits, carry)``.

        Raises:
            BadInput: the sequence is longer than the positions that the model has.
        """
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        values, mask = clean(inputs)
        x = self._embed(values)
        if self.config.pooling == "class_token":
            first = jnp.broadcast_to(self.class_token[None, None].astype(x.dtype), (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([first, x], axis=1)
            mask = None if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        context = context_of(x.shape[1], rate, mask, carry)
        if carry is None:
            return self._head(self.stack(x, context, train=train)[0], mask)
        x, caches = self.stack(x, context, train=train, caches=carry.caches)
        return self._head(x, mask), advanced(carry, caches, x.shape[1], mask)

    def _embed(self, values: Array) -> Float[Array, "batch time width"]:
        """Vectors of tokens, of features or of patches."""
        config = self.config
        if self.shapes.vocabulary is None:
            return self.project(patches(values, config.patch_size) if values.ndim == 4 else values)
        x = self.tokens(values)
        if config.embedding_scale:
            x = x * math.sqrt(config.width)
        return x + self.segments(_segment_of(config, values)) if config.segments else x

    def _head(self, x: Array, mask: Array | None) -> Float[Array, "batch *time outputs"]:
        """Logits of the whole sequence or of each position."""
        config = self.config
        if not self.shapes.per_position:
            x = _mean(x, mask) if config.pooling == "mean" else x[:, 0]
            return self.logits(jnp.tanh(self.pooler(x)) if config.pooling == "first" else x)
        masked = config.head == "masked_language_model"
        if masked:
            x = self.head_norm(gelu(self.head_dense(x)))
        if not config.tie_embeddings:
            return self.logits(x)
        logits = self.tokens.attend(x)
        return logits + self.logits_bias[None, None] if masked else logits


def _segment_of(config: Config, tokens: Int[Array, "batch time"]) -> Int[Array, "batch time"]:
    """The segment of each token: how many separators stand before it."""
    if config.separator is None:
        return jnp.zeros_like(tokens)
    ends = (tokens == config.separator).astype(jnp.int32)
    return jnp.minimum(jnp.cumsum(ends, axis=1) - ends, config.segments - 1)


def _mean(x: Float[Array, "batch time width"], mask: Bool[Array, "batch time"] | None) -> Float[Array, "batch width"]:
    """The average of the real positions; zero where there are none."""
    if mask is None:
        return jnp.mean(x, axis=1)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    total = jnp.sum(jnp.where(mask[:, :, None], x, jnp.zeros((), x.dtype)), axis=1, dtype=dtype)
    count = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.int32), 1)
    return (total / count[:, None].astype(dtype)).astype(x.dtype)


def _positions(config: Config, shapes: Shapes) -> int:
    """How many positions there are: of tokens, of features, or of patches; and the class token's."""
    size = config.patch_size
    image = len(shapes.inputs) == 3
    count = (shapes.inputs[0] // size) * (shapes.inputs[1] // size) if image else shapes.inputs[0]
    return count + (config.pooling == "class_token")


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The Transformer for a task of these shapes: tokens [T], real sequences [T, F] or images [H, W, C].

    Raises:
        BadInput: the inputs are none of these, patches do not divide the image, one output a position
            is wanted of an image, or an option does not fit the task.
    """
    _check_inputs(config, shapes)
    if shapes.target is not None:
        raise BadInput("model 'transformer' reads one sequence; for a source and a target take model 'encoder_decoder'")
    if config.tie_embeddings and (not shapes.per_position or shapes.vocabulary != shapes.outputs):
        raise BadInput("tie_embeddings=true needs a task whose outputs are its own tokens (language modelling)")
    if config.pooling != "mean" and shapes.per_position:
        raise BadInput(f"pooling={config.pooling!r} needs a task of one output for each example; leave it at 'mean'")
    if config.head != "linear" and (not shapes.per_position or shapes.causal or shapes.vocabulary is None):
        raise BadInput(
            f"head={config.head!r} needs tokens and an output at each that sees both sides; take head='linear'"
        )
    if config.segments and (shapes.causal or shapes.vocabulary is None):
        raise BadInput("segments need tokens and a task that is not causal; take segments=0")
    if config.separator is not None and not config.segments:
        raise BadInput("separator needs vectors of segments; take segments=2, or no separator")
    if config.separator is not None and config.separator >= (shapes.vocabulary or 0):
        raise BadInput(f"separator={config.separator} must be a token: at most {(shapes.vocabulary or 0) - 1}")
    if config.embedding_scale and shapes.vocabulary is None:
        raise BadInput("embedding_scale=true scales the vectors of tokens, and this task has none")
    return Transformer(config, shapes)


def _check_inputs(config: Config, shapes: Shapes) -> None:
    """Raise BadInput for inputs that no sequence can be made of."""
    if len(shapes.inputs) not in ((2, 3) if shapes.vocabulary is None else (1,)):
        raise BadInput(
            f"model 'transformer' cannot read inputs of shape {shapes.inputs}; it takes tokens (time,), "
            "real sequences (time, features) and images (height, width, channels)"
        )
    if shapes.per_position and len(shapes.inputs) == 3:
        raise BadInput("model 'transformer' gives one output for an image, and this task wants one for every position")
    if len(shapes.inputs) == 3 and (shapes.inputs[0] % config.patch_size or shapes.inputs[1] % config.patch_size):
        height, width = shapes.inputs[:2]
        common = [size for size in range(1, min(height, width) + 1) if height % size == 0 == width % size]
        raise BadInput(
            f"patch_size={config.patch_size} must divide the image of {height}x{width}; "
            f"one of {', '.join(map(str, common))}"
        )
