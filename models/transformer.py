"""Transformers: encoder (tokens, sequences, image patches) and decoder (GPT-like)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.layers.activations import activation
from models.layers.attention import attention
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.normalisation import LayerNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A Transformer (Vaswani et al. 2017) with pre-normalisation (Xiong et al. 2020) and learned positions.

    It is a causal decoder as GPT-2 (Radford et al. 2019) where the task wants an output for every
    position, otherwise an encoder whose outputs are averaged over positions.

    Attributes:
        width: length of the vector at each position; the heads divide it.
        depth: number of blocks.
        heads: attention heads in each block.
        feedforward: hidden units of each block's perceptron.
        activation: nonlinearity of the perceptron.
        dropout_rate: on embeddings, attention weights and the outputs of both branches (GPT-2).
        patch_size: side of the square patches that an image is cut into (Dosovitskiy et al. 2021).
        use_bias: whether the dense layers of the blocks and the input projection have biases.
        tie_embeddings: the output layer of a decoder is the embedding's table (Press and Wolf 2017).
        initialisation: of the kernels. ``lecun``: normal of variance 1 / inputs (LeCun et al. 1998,
            section 4.6), which suits every width. ``gpt2``: normal of deviation 0.02 (Radford et al.
            2019), which suits widths near 1,000 and leaves narrow networks slow to start.
    """

    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 2
    heads: Annotated[int, Static(ge=1)] = 4
    feedforward: Annotated[int, Static(ge=1)] = 256
    activation: Annotated[Literal["gelu", "gelu_tanh", "relu"], Static()] = "gelu_tanh"
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    patch_size: Annotated[int, Static(ge=1)] = 4
    use_bias: Annotated[bool, Static()] = True
    tie_embeddings: Annotated[bool, Static()] = False
    initialisation: Annotated[Literal["lecun", "gpt2"], Static()] = "lecun"

    def validate(self) -> None:
        """Heads share the width equally."""
        if self.width % self.heads:
            near = [heads for heads in range(1, self.width + 1) if self.width % heads == 0]
            raise BadInput(f"heads={self.heads} must divide width={self.width}; one of {', '.join(map(str, near))}")


TABLE_INIT = nn.initializers.normal(0.02)
"""GPT-2's initialisation of the tables of tokens and positions (Radford et al. 2019)."""


def kernel_init(config: Config, scale: float = 1.0) -> nn.initializers.Initializer:
    """The initialiser that the configuration names, its deviation multiplied by ``scale``. Biases begin at 0."""
    if config.initialisation == "gpt2":
        return nn.initializers.normal(0.02 * scale)
    return nn.initializers.variance_scaling(scale**2, "fan_in", "normal")


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + perceptron(norm(x))``.

    The two kernels that write into the residual stream begin smaller by sqrt(2 depth) (Radford et
    al. 2019, section 2.3).
    """

    config: Config
    causal: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time width"], rate: Any, *, train: bool
    ) -> Float[Array, "batch time width"]:
        """One block."""
        config = self.config
        init, residual_init = kernel_init(config), kernel_init(config, 1 / math.sqrt(2 * config.depth))
        heads = (*x.shape[:2], config.heads, config.width // config.heads)
        projected = Dense(3 * config.width, kernel_init=init, use_bias=config.use_bias, name="queries_keys_values")(
            LayerNorm(name="norm_1")(x)
        )
        queries, keys, values = (part.reshape(heads) for part in jnp.split(projected, 3, axis=-1))
        drop_weights = Dropout(name="dropout_weights")
        mixed = attention(
            queries, keys, values, causal=self.causal, drop=lambda weights: drop_weights(weights, rate, train=train)
        )
        mixed = Dense(config.width, kernel_init=residual_init, use_bias=config.use_bias, name="attention_out")(
            mixed.reshape(x.shape)
        )
        x = x + Dropout(name="dropout_attention")(mixed, rate, train=train)
        hidden = Dense(config.feedforward, kernel_init=init, use_bias=config.use_bias, name="feedforward_in")(
            LayerNorm(name="norm_2")(x)
        )
        hidden = activation(config.activation)(hidden)
        hidden = Dense(config.width, kernel_init=residual_init, use_bias=config.use_bias, name="feedforward_out")(
            hidden
        )
        return x + Dropout(name="dropout_feedforward")(hidden, rate, train=train)


def patches(images: Float[Array, "batch height width channels"], size: int) -> Float[Array, "batch patches values"]:
    """Images cut into squares of side ``size``, row by row, each square flattened."""
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // size, size, width // size, size, channels)
    return jnp.transpose(grid, (0, 1, 3, 2, 4, 5)).reshape(batch, -1, size * size * channels)


class Transformer(nn.Module):
    """Embedding and positions, blocks, final normalisation, logits."""

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(
        self, inputs: Num[Array, "batch time *features"], *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch *time outputs"]:
        """Logits [batch, outputs], or [batch, time, outputs] for a task of one output a position."""
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        table = None
        if self.shapes.vocabulary is not None:
            table = Embedding(self.shapes.vocabulary, config.width, TABLE_INIT, name="tokens")
            x = table(inputs)
        else:
            items = patches(inputs, config.patch_size) if inputs.ndim == 4 else inputs
            x = Dense(config.width, kernel_init=kernel_init(config), use_bias=config.use_bias, name="project")(items)
        positions = self.param("positions", TABLE_INIT, (x.shape[1], config.width))
        x = Dropout(name="dropout_input")(x + positions[None], rate, train=train)
        for index in range(config.depth):
            x = Block(config, self.shapes.per_position, name=f"block_{index}")(x, rate, train=train)
        x = LayerNorm(name="norm")(x)
        if not self.shapes.per_position:
            x = jnp.mean(x, axis=1)
        if table is not None and config.tie_embeddings:
            return table.attend(x)
        return Dense(
            self.shapes.outputs, use_bias=not self.shapes.per_position, kernel_init=kernel_init(config), name="logits"
        )(x)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The Transformer for a task of these shapes: tokens [T], real sequences [T, F] or images [H, W, C].

    Raises:
        BadInput: the inputs are none of these, patches do not divide the image, one output a position
            is wanted of an image, or embeddings are to be tied that cannot be.
    """
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
    if config.tie_embeddings and (not shapes.per_position or shapes.vocabulary != shapes.outputs):
        raise BadInput("tie_embeddings=true needs a task whose outputs are its own tokens (language modelling)")
    return Transformer(config, shapes)
