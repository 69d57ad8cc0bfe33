"""The convolutional network: convolutions and pooling, then dense layers."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.layers.activations import activation
from models.layers.convolution import Conv
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.pooling import max_pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A convolutional network.

    Attributes:
        channels: output channels of each convolution; each is followed by a pooling that halves
            height and width.
        kernel_size: side of the kernels in pixels.
        width: units of the hidden dense layer; 0 leaves it out.
        dropout_rate: probability of dropping an input of a dense layer.
    """

    channels: Annotated[tuple[int, ...], Static(ge=1)] = (16, 32)
    kernel_size: Annotated[int, Static(ge=1)] = 3
    width: Annotated[int, Static(ge=0)] = 0
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    def validate(self) -> None:
        """Raise BadInput when there is no convolution."""
        if not self.channels:
            raise BadInput("channels=() must name at least one convolution; the model without any is 'mlp'")


class CNN(nn.Module):
    """Stages of convolution, rectifier and 2x2 max pooling; then dense layers, the last of logits.

    The plain design of LeCun et al. 1998, "Gradient-Based Learning Applied to Document
    Recognition", section II, with rectifiers and maxima. Kernels before a rectifier begin as He's
    normal (variance 2 / inputs of one output; He et al. 2015, "Delving Deep into Rectifiers",
    equation 10), that of the logits as LeCun's (variance 1 / inputs; LeCun et al. 1998, "Efficient
    BackProp", section 4.6). Biases begin at 0. Dropout (Srivastava et al. 2014, JMLR 15, section 4)
    applies to the inputs of the dense layers.

    Attributes:
        config: sizes and defaults.
        outputs: number of logits.
    """

    config: Config
    outputs: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch outputs"]:
        """Logits of images."""
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        relu = activation("relu")
        x = inputs
        for i, features in enumerate(self.config.channels):
            x = Conv(features, (self.config.kernel_size, self.config.kernel_size), name=f"conv_{i}")(x)
            x = max_pool(relu(x), 2)
        x = x.reshape(x.shape[0], -1)
        x = Dropout()(x, rate, train=train)
        if self.config.width:
            x = relu(Dense(self.config.width, kernel_init=nn.initializers.he_normal(), name="hidden")(x))
            x = Dropout()(x, rate, train=train)
        return Dense(self.outputs, name="logits")(x)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes.

    Raises:
        BadInput: the inputs are no images or too small to be halved so often, or the task wants an
            output for every position.
    """
    if shapes.vocabulary is not None:
        raise BadInput("model 'cnn' takes images, and this task gives tokens; rnn and transformer take tokens")
    if len(shapes.inputs) != 3:
        raise BadInput(
            f"model 'cnn' takes images (height, width, channels), and inputs of this task have shape {shapes.inputs}; "
            "mlp takes real inputs of any shape"
        )
    if shapes.per_position:
        raise BadInput(
            "model 'cnn' gives one output for an example, and this task wants one for every position; "
            "rnn and transformer give that"
        )
    smallest = 2 ** len(config.channels)
    if min(shapes.inputs[:2]) < smallest:
        raise BadInput(
            f"channels={config.channels} halve an image {len(config.channels)} times, which takes at least "
            f"{smallest}x{smallest} pixels; images of this task have {shapes.inputs[0]}x{shapes.inputs[1]}"
        )
    return CNN(config, shapes.outputs)
