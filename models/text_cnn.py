"""The sentence network of Kim: filters of several widths over words, and their maxima over time."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Num

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.inputs import Padded, unpad
from models.layers.convolution import Conv
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.pooling import max_over_time
from models.layers.recording import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A convolutional network for sentences (Kim 2014, "Convolutional Neural Networks for Sentence Classification").

    The defaults are those of section 3.1. This is CNN-rand, whose word vectors are trained from
    random ones; the paper's other forms begin from word2vec. Its constraint on the norm of the output
    layer's weights (at most 3) is not the model's; and its outputs divide by nothing at test time,
    since dropout divides in training instead.

    Attributes:
        kernel_sizes: words that each kind of filter sees (the paper's h).
        channels: number of filters (feature maps) of each kind.
        embedding: length of a word's vector (the paper's k); used where the inputs are tokens.
        dropout_rate: probability of dropping one of the maxima (section 2.1).
    """

    kernel_sizes: Annotated[tuple[int, ...], Static(ge=1)] = (3, 4, 5)
    channels: Annotated[int, Static(ge=1)] = 100
    embedding: Annotated[int, Static(ge=1)] = 300
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.5

    def validate(self) -> None:
        """Raise BadInput when there is no filter."""
        if not self.kernel_sizes:
            raise BadInput("kernel_sizes=() must name at least one width of filters, such as 3,4,5")


class TextCNN(nn.Module):
    """``logits = W dropout([max_t relu(w_h . x_{t:t+h-1} + b_h)] for every filter) + b`` (equations 2 to 4).

    A filter sees whole windows of real words only (narrow convolution). A sentence shorter than a
    filter gives it one window, filled up with zero vectors. Word vectors begin uniform in
    [-0.25, 0.25], as in the author's program, kernels of the filters as He's normal (He et al. 2015,
    "Delving Deep into Rectifiers", equation 10), that of the logits as LeCun's (variance 1 / inputs);
    biases begin at 0.
    """

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(
        self, inputs: Num[Array, "batch time *features"] | Padded, *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch outputs"]:
        """Logits of sentences: tokens [batch, time], or real vectors [batch, time, features]."""
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        x, mask = unpad(inputs)
        if self.shapes.vocabulary is not None:
            init = partial(jax.random.uniform, minval=-0.25, maxval=0.25)
            x = Embedding(self.shapes.vocabulary, config.embedding, init, name="tokens")(x)
        x = x if mask is None else jnp.where(mask[:, :, None], x, jnp.zeros((), x.dtype))
        time = x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, max(0, max(config.kernel_sizes) - time)), (0, 0)))
        features = []
        for number, size in enumerate(config.kernel_sizes):
            maps = Conv(config.channels, (size,), padding="VALID", name=f"conv_{number}")(x)
            # The rectifier is monotonic: after the maximum it costs less.
            features.append(jax.nn.relu(max_over_time(maps, _real_windows(mask, time, size, maps.shape[:2]))))
        together = jnp.concatenate(features, axis=-1)
        record(self, "features", lambda: together)
        return Dense(self.shapes.outputs, name="logits")(Dropout()(together, rate, train=train))


def _real_windows(
    mask: Bool[Array, "batch time"] | None, time: int, size: int, shape: tuple[int, ...]
) -> Bool[Array, "batch windows"] | None:
    """Which windows of ``size`` words lie in the sentence; the first one always counts. None: all do.

    Args:
        mask: the words that are real; None where all of them are.
        time: words of a sentence, before it was filled up to the widest window.
        size: of a window.
        shape: of the windows, [batch, windows].
    """
    if mask is None and shape[1] == max(time - size, 0) + 1:
        return None
    lengths = jnp.full(shape[0], time) if mask is None else mask.sum(1)
    return jnp.arange(shape[1])[None] < jnp.maximum(lengths - size + 1, 1)[:, None]


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes: tokens (time,) or real sequences (time, features).

    Raises:
        BadInput: the inputs are none of these, or the task wants more than one output an example.
    """
    if len(shapes.inputs) != (2 if shapes.vocabulary is None else 1):
        raise BadInput(
            f"model 'text_cnn' cannot read inputs of shape {shapes.inputs}; it takes tokens (time,) and real "
            "sequences (time, features); cnn takes images"
        )
    if shapes.per_position:
        raise BadInput(
            "model 'text_cnn' gives one output for a sequence, and this task wants one for every position; "
            "tcn, rnn and transformer give that"
        )
    return TextCNN(config, shapes)
