"""The temporal convolutional network: dilated causal convolutions in residual blocks."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.inputs import Padded, unpad
from models.layers.convolution import Conv, convolve
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.recording import record

Carry = tuple[Float[Array, "batch _ _"], ...]
"""The last inputs of each convolution [batch, positions, channels]: what the next positions see of the past."""

CONVOLUTIONS = 2
"""Dilated convolutions in a block."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A temporal convolutional network.

    Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", section 3. An output sees :attr:`receptive_field` positions.

    Attributes:
        width: channels of each convolution.
        depth: number of residual blocks; block i (from 0) has dilation 2^i (section 3.2).
        kernel_size: positions under a kernel.
        embedding: length of a token's vector; used where the inputs are tokens.
        weight_normalisation: each filter is ``scale v / |v|`` (Salimans and Kingma 2016, "Weight
            Normalization", equation 2), its scale beginning at ``|v|``. The paper of the network has it.
        dropout_rate: probability of dropping a channel at all positions of a sequence, after each
            convolution's rectifier (spatial dropout; section 3.3).
    """

    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 4
    kernel_size: Annotated[int, Static(ge=2)] = 3
    embedding: Annotated[int, Static(ge=1)] = 64
    weight_normalisation: Annotated[bool, Static()] = True
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    @property
    def receptive_field(self) -> int:
        """The number of positions that an output depends on: its own and those before it.

        ``1 + 2 (kernel_size - 1) (2^depth - 1)``. Positions further back have no effect at all.
        """
        return 1 + CONVOLUTIONS * (self.kernel_size - 1) * (2**self.depth - 1)


class CausalConv(nn.Module):
    """A dilated causal convolution with a bias; weight normalisation is an option.

    Parameters: ``kernel`` [kernel_size, channels, features] (He's normal; He et al. 2015, equation 10),
    ``bias`` (0) and with weight normalisation ``scale`` [features].
    """

    features: int
    kernel_size: int
    dilation: int
    weight_normalisation: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time channels"], past: Float[Array, "batch past channels"] | None = None
    ) -> Float[Array, "batch time features"]:
        """Convolve ``x``, which ``past`` comes before; None is a past of zeros."""
        shape = (self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        if self.weight_normalisation:
            wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
            length = jnp.sqrt(jnp.sum(jnp.square(wide), axis=(0, 1)))
            scale = self.param("scale", lambda _, shape: length.reshape(shape), length.shape)
            kernel = (wide * (scale / length)[None, None]).astype(kernel.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        padding = "CAUSAL" if past is None else "VALID"
        x = x if past is None else jnp.concatenate([past, x], axis=1)
        return convolve(x, kernel, padding=padding, dilation=(self.dilation,)) + bias[None, None]


class TCN(nn.Module):
    """Embedding (for tokens), residual blocks, dense logits.

    A block is ``relu(x + F(x))`` with F twice a dilated causal convolution, rectifier and dropout (figure
    1 b); a convolution of one position takes the place of x in the sum where the number of channels
    changes. Images are read pixel by pixel, row after row (section 4.1, sequential MNIST). The logits
    come from every position for a task of one output a position, otherwise from the last real one.

    Kernels begin as He's normal, where the authors' program has a standard deviation of 0.01; the kernel
    of the logits as LeCun's (variance 1 / inputs); biases at 0. Token vectors begin as normal.
    """

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(
        self,
        inputs: Num[Array, "batch time *features"] | Padded,
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
        carry: Carry | None = None,
    ) -> Float[Array, "batch *time outputs"] | tuple[Float[Array, "batch *time outputs"], Carry]:
        """Logits [batch, outputs], or [batch, time, outputs] for a task of one output a position.

        Args:
            inputs: tokens, real sequences or images; padded sequences end in padding.
            train: whether to drop.
            hyperparameters: ``dropout_rate``.
            carry: what :meth:`start` or an earlier call gave. The call then gives ``(logits, carry)``:
                the sequences go on. Dropout draws its masks anew in each call.
        """
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        x, mask = unpad(inputs)
        if self.shapes.vocabulary is not None:
            x = Embedding(self.shapes.vocabulary, config.embedding, nn.initializers.normal(1.0), name="tokens")(x)
        elif len(self.shapes.inputs) == 3:
            x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = x if mask is None else jnp.where(mask[:, :, None], x, jnp.zeros((), x.dtype))
        after = []
        for block in range(config.depth):
            y = x
            for number in range(CONVOLUTIONS):
                past = None if carry is None else carry[block * CONVOLUTIONS + number]
                if past is not None:
                    after.append(_newest(past, y, mask))
                conv = CausalConv(
                    config.width,
                    config.kernel_size,
                    2**block,
                    config.weight_normalisation,
                    name=f"block_{block}_conv_{number}",
                )
                y = Dropout(shared_axes=(1,))(jax.nn.relu(conv(y, past)), rate, train=train)
            if x.shape[-1] != config.width:
                x = Conv(config.width, (1,), name=f"block_{block}_projection")(x)
            x = jax.nn.relu(x + y)
            record(self, f"block_{block}", lambda x=x: x)
        if not self.shapes.per_position:
            x = x[:, -1] if mask is None else _last(x, mask)
        logits = Dense(self.shapes.outputs, name="logits")(x)
        return logits if carry is None else (logits, tuple(after))

    def start(self, source: int, *, length: int) -> Carry:
        """What a sequence begins from: zeros before every convolution.

        Args:
            source: number of sequences.
            length: has no effect; a carry serves any number of positions.
        """
        del length
        config = self.config
        params = self.variables["params"]
        channels = [params["block_0_conv_0"]["kernel"].shape[1]] + [config.width] * (CONVOLUTIONS * config.depth - 1)
        dtype = params["logits"]["kernel"].dtype
        return tuple(
            jnp.zeros((source, (config.kernel_size - 1) * 2 ** (number // CONVOLUTIONS), size), dtype)
            for number, size in enumerate(channels)
        )


def _newest(past: Array, x: Array, mask: Array | None) -> Array:
    """The last ``past.shape[1]`` positions of what came before and ``x``, without padding at its end."""
    together = jnp.concatenate([past, x], axis=1)
    size = past.shape[1]
    if mask is None:
        return together[:, x.shape[1] :]
    return jax.vmap(lambda row, start: jax.lax.dynamic_slice_in_dim(row, start, size))(together, mask.sum(1))


def _last(x: Array, mask: Array) -> Array:
    """The features of the last position where the mask is true."""
    return jnp.take_along_axis(x, (mask.sum(1) - 1)[:, None, None], axis=1)[:, 0]


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes: tokens (time,), real sequences (time, features) or images.

    Raises:
        BadInput: the inputs are none of these, are source and target, or one output a position is
            wanted of an image.
    """
    if len(shapes.inputs) not in ((2, 3) if shapes.vocabulary is None else (1,)):
        raise BadInput(
            f"model 'tcn' cannot read inputs of shape {shapes.inputs}; it takes tokens (time,), "
            "real sequences (time, features) and images (height, width, channels)"
        )
    if shapes.target is not None:
        raise BadInput("model 'tcn' reads one sequence, and this task maps one to another")
    if shapes.per_position and len(shapes.inputs) == 3:
        raise BadInput("model 'tcn' gives one output for an image, and this task wants one for every position")
    return TCN(config, shapes)
