"""The Transformer of source and target (Vaswani et al. 2017)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from models.base import BadInput, Shapes, Static, Traced
from models.inputs import Padded, Pair
from models.layers.dense import Dense
from models.layers.embeddings import Embedding
from models.layers.transformer_config import StackConfig, kernel_init, sizes, table_init
from models.layers.transformer_stack import (
    Blocks,
    Carry,
    Stack,
    advanced,
    check_length,
    clean,
    context_of,
    empty_caches,
    split_memory,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StackConfig):
    """An encoder reads the source; a causal decoder that attends to it writes the target.

    The options of the blocks are those of :class:`models.layers.transformer_config.StackConfig`; the defaults
    here are a small model of the paper's kind, and :data:`BASE` is its base model. ``depth`` is that of
    the decoder. The paper normalises with an epsilon that it does not state (here 1e-5), and its released
    code draws kernels from Glorot's uniform distribution.

    Attributes:
        encoder_depth: blocks of the encoder; None is as many as of the decoder.
        share_embeddings: source and target have one table of tokens (Vaswani et al. 2017, section 3.4).
        tie_embeddings: the output layer is the target's table (the same section; Press and Wolf 2017).
    """

    width: Annotated[int, Static(ge=1)] = 128
    heads: Annotated[int, Static(ge=1)] = 4
    feedforward: Annotated[int, Static(ge=0)] = 512
    activation: Annotated[Literal["gelu", "gelu_tanh", "relu", "swiglu", "geglu"], Static()] = "relu"
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.1
    norm_position: Annotated[Literal["pre", "post"], Static()] = "post"
    scale_residual: Annotated[bool, Static()] = False
    positions: Annotated[Literal["learned", "sinusoidal", "rotary", "alibi", "none"], Static()] = "sinusoidal"
    embedding_scale: Annotated[bool, Static()] = True
    encoder_depth: Annotated[int | None, Static(ge=1)] = None
    share_embeddings: Annotated[bool, Static()] = True
    tie_embeddings: Annotated[bool, Static()] = True


BASE = Config(width=512, depth=6, heads=8, feedforward=2048)
"""The base model of Vaswani et al. 2017, table 3."""


class EncoderDecoder(nn.Module):
    """Encoder, decoder, and the logits of the next target token at every target position.

    The keys and values that the source gives to all blocks of the decoder are one product
    (``cross_keys_values``), so that a translation that is written step by step computes them once: for each
    block its keys, then its values. Records what the blocks record: ``encoder/block_i/attention_weights``,
    ``decoder/block_i/cross_attention_weights`` [batch, heads, target, source] and others.
    """

    config: Config
    shapes: Shapes

    def setup(self) -> None:
        """Make both halves."""
        config, shapes = self.config, self.shapes
        init, table = kernel_init(config), table_init(config)
        if shapes.vocabulary is None:
            self.source_project = Dense(config.width, kernel_init=init, use_bias=config.use_bias)
        elif not config.share_embeddings:
            self.source_tokens = Embedding(shapes.vocabulary, config.width, table)
        self.tokens = Embedding(shapes.outputs, config.width, table)
        depth = config.depth if config.encoder_depth is None else config.encoder_depth
        self.encoder = Stack(dataclasses.replace(config, depth=depth), shapes.inputs[0], causal=False)
        size = sizes(config)
        features = config.depth * size.kv_heads * (size.key + size.value)
        self.cross_keys_values = Dense(features, kernel_init=init, use_bias=config.use_bias)
        self.decoder = Stack(config, shapes.target or 0, causal=True, cross=True)
        if not config.tie_embeddings:
            self.logits = Dense(shapes.outputs, use_bias=False, kernel_init=init)

    def start(self, source: Padded, *, length: int) -> Carry:
        """What translations of at most ``length`` positions begin from: the encoded source.

        Raises:
            BadInput: the source or the length exceeds the positions that the model has.
        """
        check_length(self.config, length, self.decoder.length)
        memory, mask = self._encode(source, 0.0, train=False)
        dtype = jnp.asarray(self.tokens.embedding).dtype
        batch = source.mask.shape[0]
        return Carry(jnp.zeros((batch,), jnp.int32), empty_caches(self.config, batch, length, dtype), memory, mask)

    def __call__(
        self,
        inputs: Pair | Padded | Int[Array, "batch time"],
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
        carry: Carry | None = None,
    ) -> Any:
        """Logits [batch, target, outputs] of a pair.

        With a carry the inputs are the target's positions after it, and the result is ``(logits, carry)``.

        Raises:
            BadInput: a sequence is longer than the positions that the model has.
        """
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        if isinstance(inputs, Pair):
            memory, memory_mask = self._encode(inputs.source, rate, train=train)
            tokens, mask = clean(inputs.target)
            context = context_of(tokens.shape[1], rate, mask, None)._replace(memory_mask=memory_mask)
            x, _ = self.decoder(self._embed(self.tokens, tokens), context, train=train, memory=memory)
            return self._logits(x)
        if carry is None:
            raise BadInput("model 'encoder_decoder' reads a Pair of source and target, or the target after a carry")
        tokens, mask = clean(inputs)
        context = context_of(tokens.shape[1], rate, mask, carry)
        x = self._embed(self.tokens, tokens)
        x, caches = self.decoder(x, context, train=train, caches=carry.caches, memory=carry.memory)
        return self._logits(x), advanced(carry, caches, tokens.shape[1], mask)

    def _embed(self, table: Embedding, tokens: Array) -> Float[Array, "batch time width"]:
        x = table(tokens)
        return x * math.sqrt(self.config.width) if self.config.embedding_scale else x

    def _encode(self, source: Padded, rate: Any, *, train: bool) -> tuple[Blocks, Bool[Array, "batch source"]]:
        """What the source offers to each block of the decoder, and which of its positions are real."""
        values, mask = clean(source)
        if self.shapes.vocabulary is None:
            x = self.source_project(values)
        else:
            x = self._embed(self.tokens if self.config.share_embeddings else self.source_tokens, values)
        x, _ = self.encoder(x, context_of(x.shape[1], rate, mask, None), train=train)
        return split_memory(self.config, self.cross_keys_values(x)), source.mask

    def _logits(self, x: Array) -> Float[Array, "batch time outputs"]:
        return self.tokens.attend(x) if self.config.tie_embeddings else self.logits(x)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The model for a task of source sequences, tokens [T] or real [T, F], and target tokens.

    Raises:
        BadInput: the task has no target, the inputs are no sequences, or the vocabularies do not fit.
    """
    if shapes.target is None:
        raise BadInput("model 'encoder_decoder' needs a task of source and target; for one sequence take 'transformer'")
    if len(shapes.inputs) != (2 if shapes.vocabulary is None else 1):
        raise BadInput(
            f"model 'encoder_decoder' cannot read a source of shape {shapes.inputs}; it takes tokens (time,) "
            "and real sequences (time, features)"
        )
    if config.share_embeddings and shapes.vocabulary is not None and shapes.vocabulary != shapes.outputs:
        raise BadInput(
            f"share_embeddings=true needs one vocabulary; the source has {shapes.vocabulary} tokens and the target "
            f"{shapes.outputs}: take share_embeddings=false"
        )
    return EncoderDecoder(config, shapes)
