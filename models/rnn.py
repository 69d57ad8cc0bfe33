"""Recurrent networks: vanilla, GRU and LSTM, stacked."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.layers import recurrence
from models.layers.dense import Dense, matmul
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A stack of recurrent layers.

    Attributes:
        cell: vanilla (Elman 1990), gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997).
        width: units of each layer.
        depth: number of layers.
        embedding: length of a token's vector; used where the inputs are tokens.
        forget_bias: initial bias of the LSTM's forget gate (Jozefowicz et al. 2015, section 2.2).
        dropout_rate: probability of dropping, on the inputs of every layer but the first and of
            the output layer (Zaremba et al. 2014: never on the recurrent connections).
    """

    cell: Annotated[Literal["vanilla", "gru", "lstm"], Static()] = "lstm"
    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 1
    embedding: Annotated[int, Static(ge=1)] = 64
    forget_bias: Annotated[float, Static()] = 1.0
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0


class Layer(nn.Module):
    """One recurrent layer over a whole sequence.

    Parameters: ``input_kernel`` [features, gates * hidden] (Glorot uniform for each gate; Glorot
    and Bengio 2010), ``recurrent_kernel`` [hidden, gates * hidden] (orthogonal for each gate; Saxe
    et al. 2014), ``bias``, and for the GRU ``recurrent_bias``; biases begin at 0 but the forget
    gate's.
    """

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "time batch features"] | Int[Array, "time batch"], table: Embedding | None = None
    ) -> Float[Array, "time batch hidden"]:
        """The hidden states at every step, from a zero state.

        Args:
            x: real inputs, or tokens where there is a table.
            table: the tokens' vectors.
        """
        width, cell = self.config.width, self.config.cell
        gates = recurrence.GATES[cell]
        features = x.shape[-1] if table is None else table.features

        def input_init(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
            """Glorot's limit for one gate, sqrt(6 / (features + hidden)), in all of them."""
            limit = math.sqrt(6 / (shape[0] + width))
            return jax.random.uniform(key, shape, dtype, -limit, limit)

        def bias_init(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
            del key
            bias = jnp.zeros(shape, dtype)
            return bias.at[width : 2 * width].set(self.config.forget_bias) if cell == "lstm" else bias

        input_kernel = self.param("input_kernel", input_init, (features, gates * width))
        kernel = self.param("recurrent_kernel", recurrence.orthogonal_blocks(gates), (width, gates * width))
        bias = self.param("bias", bias_init, (gates * width,))
        projected = matmul(x, input_kernel) if table is None else table.project(x, input_kernel)
        projected = projected + bias[None, None]
        if cell == "vanilla":
            return recurrence.vanilla(projected, kernel)
        if cell == "lstm":
            return recurrence.lstm(projected, kernel)
        recurrent_bias = self.param("recurrent_bias", nn.initializers.zeros_init(), (gates * width,))
        return recurrence.gru(projected, kernel, recurrent_bias)


class RNN(nn.Module):
    """Embedding (for tokens), recurrent layers, dense logits.

    Images are read row by row: time is the height, features are width times channels. The logits
    come from every step for a task of one output a position, otherwise from the last step.
    """

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(
        self, inputs: Num[Array, "batch time *features"], *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch *time outputs"]:
        """Logits [batch, outputs], or [batch, time, outputs] for a task of one output a position."""
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        table = None
        by_time = jnp.swapaxes(inputs, 0, 1)
        if self.shapes.vocabulary is not None:
            table = Embedding(self.shapes.vocabulary, self.config.embedding, nn.initializers.normal(1.0), name="tokens")
            x = by_time
        else:
            x = by_time.reshape(*by_time.shape[:2], -1)
        for index in range(self.config.depth):
            x = Dropout()(x, rate, train=train) if index else x
            x = Layer(self.config, name=f"layer_{index}")(x, None if index else table)
        x = x if self.shapes.per_position else x[-1]
        logits = Dense(self.shapes.outputs, name="logits")(Dropout()(x, rate, train=train))
        return jnp.swapaxes(logits, 0, 1) if self.shapes.per_position else logits


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes: tokens [T], real sequences [T, F] or images [H, W, C].

    Raises:
        BadInput: the inputs are none of these, or one output a position is wanted of an image.
    """
    if len(shapes.inputs) not in ((2, 3) if shapes.vocabulary is None else (1,)):
        raise BadInput(
            f"model 'rnn' cannot read inputs of shape {shapes.inputs}; it takes tokens (time,), "
            "real sequences (time, features) and images (height, width, channels)"
        )
    if shapes.per_position and len(shapes.inputs) == 3:
        raise BadInput("model 'rnn' gives one output for an image, and this task wants one for every position")
    return RNN(config, shapes)
