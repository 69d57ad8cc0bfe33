"""The plain convolutional network of images and signals: stages of convolutions and pooling, then dense layers."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static, Traced, check_divides
from models.inputs import Padded, filled
from models.layers.activations import activation
from models.layers.convolution import Conv
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.normalisation import Kind, Norm
from models.layers.pooling import average_pool, global_average_pool, max_pool
from models.layers.recording import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A plain convolutional network, over height and width of images or over the time of signals.

    LeNet-5 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section
    II.B) is nearly ``channels=(6, 16), kernel_size=5, padding="valid", pooling="average",
    activation="tanh", width=120, further_widths=(84,)`` on 32x32 pixels; the original's subsampling has
    trained factors, its second convolution sees some of the maps only, its tanh is scaled, and its
    outputs are radial basis functions. The networks of Simonyan and Zisserman 2015, "Very Deep
    Convolutional Networks", table 1, are ``channels=(64, 128, 256, 512, 512), width=4096,
    further_widths=(4096,), dropout_rate=0.5`` with ``convolutions=(2, 2, 3, 3, 3)`` (D) or ``(2, 2, 4, 4,
    4)`` (E); theirs also drop the inputs of all dense layers but the first.

    Attributes:
        channels: output channels of each stage's convolutions.
        convolutions: number of convolutions in each stage; one number serves every stage.
        kernel_size: side of the kernels in pixels, or their length in points of time, in each stage; one number
            serves every stage.
        stride: distance between the outputs of each stage's first convolution.
        padding: ``same`` keeps height and width (or the length) but for the stride, with zeros around; ``valid`` does
            not pad.
        pooling: what ends a stage and halves height and width (or the length): ``max``, ``average`` or ``none``.
        pool_size: side of the windows of the pooling, which lie two pixels apart (Krizhevsky et al. 2012, section
            3.4: 3); what reaches over the end of an image is not counted.
        activation: nonlinearity after each convolution and each hidden dense layer.
        normalisation: between each convolution and its nonlinearity: ``batch`` (Ioffe and Szegedy
            2015), ``group`` (Wu and He 2018), ``layer`` (Ba et al. 2016) or ``none``. Convolutions
            have a bias without it only, since it brings its own.
        norm_groups: groups of ``group``; must divide every number of channels. Wu and He take 32.
        norm_momentum: of the running averages of ``batch``: ``r <- m r + (1 - m) batch``.
        global_pooling: average each channel over the image or the time before the dense layers (Lin et al.
            2014, section 3.2).
        width: units of the first hidden dense layer; 0 leaves it out.
        further_widths: units of hidden dense layers after that.
        dropout_rate: probability of dropping an input of a dense layer (Srivastava et al. 2014).
    """

    channels: Annotated[tuple[int, ...], Static(ge=1)] = (16, 32)
    convolutions: Annotated[tuple[int, ...], Static(ge=1)] = (1,)
    kernel_size: Annotated[int | tuple[int, ...], Static(ge=1)] = 3
    stride: Annotated[int, Static(ge=1)] = 1
    padding: Annotated[Literal["same", "valid"], Static()] = "same"
    pooling: Annotated[Literal["max", "average", "none"], Static()] = "max"
    pool_size: Annotated[int, Static(ge=2)] = 2
    activation: Annotated[Literal["relu", "gelu", "gelu_tanh", "tanh"], Static()] = "relu"
    normalisation: Annotated[Kind, Static()] = "none"
    norm_groups: Annotated[int, Static(ge=1)] = 8
    norm_momentum: Annotated[float, Traced(ge=0, le=1)] = 0.9
    global_pooling: Annotated[bool, Static()] = False
    width: Annotated[int, Static(ge=0)] = 0
    further_widths: Annotated[tuple[int, ...], Static(ge=1)] = ()
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    def validate(self) -> None:
        """Raise BadInput where there is no convolution, or fields do not fit each other."""
        if not self.channels:
            raise BadInput("channels=() must name at least one convolution; the model without any is 'mlp'")
        if len(self.convolutions) not in (1, len(self.channels)):
            raise BadInput(
                f"convolutions={self.convolutions} must be one number, or {len(self.channels)}: one for each stage of "
                f"channels={self.channels}"
            )
        if isinstance(self.kernel_size, tuple) and len(self.kernel_size) != len(self.channels):
            raise BadInput(
                f"kernel_size={self.kernel_size} must be one number, or {len(self.channels)}: one for each stage of "
                f"channels={self.channels}"
            )
        if self.further_widths and not self.width:
            raise BadInput(f"further_widths={self.further_widths} need a first hidden layer: width of at least 1")
        for channels in self.channels if self.normalisation == "group" else ():
            check_divides("norm_groups", self.norm_groups, "channels", channels)

    @property
    def stages(self) -> tuple[int, ...]:
        """The number of convolutions in each stage."""
        return self.convolutions * len(self.channels) if len(self.convolutions) == 1 else self.convolutions

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """The side of the kernels in each stage."""
        return self.kernel_size if isinstance(self.kernel_size, tuple) else (self.kernel_size,) * len(self.channels)

    @property
    def smallest_size(self) -> int:
        """The least height and width of images, or length of signals, that the stages leave a pixel of."""
        size = 1
        for convolutions, side in zip(reversed(self.stages), reversed(self.kernel_sizes), strict=True):
            size *= 1 if self.pooling == "none" else 2
            lost = side - 1 if self.padding == "valid" else 0
            size = (size + (convolutions - 1) * lost - 1) * self.stride + 1 + lost
        return size


class CNN(nn.Module):
    """Stages of convolutions and pooling; then dense layers, the last of logits.

    The plain design of LeCun et al. 1998, "Gradient-Based Learning Applied to Document
    Recognition", section II, by default with rectifiers and maxima. Kernels begin as He's normal
    (variance 2 / inputs of one output; He et al. 2015, "Delving Deep into Rectifiers", equation 10),
    with tanh as LeCun's (variance 1 / inputs; LeCun et al. 1998, "Efficient BackProp", section 4.6),
    and so does that of the logits. Biases begin at 0. Dropout (Srivastava et al. 2014, JMLR 15,
    section 4) applies to the inputs of the dense layers.

    A signal is convolved and pooled over time. One that ends in padding is a signal that ends in zeros: what stands
    there has no effect, but how much of it there is does, as the number of inputs of the dense layers is fixed.

    Attributes:
        config: sizes and defaults.
        outputs: number of logits.
    """

    config: Config
    outputs: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch *size channels"] | Padded, *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch outputs"]:
        """Logits of images [batch, height, width, channels] or signals [batch, time, channels]."""
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        momentum = hyperparameters.get("norm_momentum", config.norm_momentum)
        pointwise = activation(config.activation)
        pool = {"max": max_pool, "average": average_pool}.get(config.pooling)
        initializers = nn.initializers
        kernel_init = initializers.lecun_normal() if config.activation == "tanh" else initializers.he_normal()
        x, numbers = filled(inputs), itertools.count()
        axes, stages = x.ndim - 2, zip(config.channels, config.stages, config.kernel_sizes, strict=True)
        for stage, (features, convolutions, side) in enumerate(stages):
            for index, number in enumerate(itertools.islice(numbers, convolutions)):
                x = Conv(
                    features,
                    (side,) * axes,
                    strides=(1 if index else config.stride,) * axes,
                    padding="SAME" if config.padding == "same" else "VALID",
                    use_bias=config.normalisation == "none",
                    kernel_init=kernel_init,
                    name=f"conv_{number}",
                )(x)
                norm = Norm(config.normalisation, config.norm_groups, name=f"norm_{number}")
                x = pointwise(norm(x, train=train, momentum=momentum))
            x = pool(x, config.pool_size, 2, ((0, config.pool_size - 2),) * axes) if pool else x
            record(self, f"stage_{stage}", lambda x=x: x)
        x = global_average_pool(x) if config.global_pooling else x.reshape(x.shape[0], -1)
        x = Dropout()(x, rate, train=train)
        for layer, width in enumerate((config.width, *config.further_widths) if config.width else ()):
            name = f"hidden_{layer}" if layer else "hidden"
            x = pointwise(Dense(width, kernel_init=kernel_init, name=name)(x))
            record(self, name + "_activations", lambda x=x: x)
            x = Dropout()(x, rate, train=train)
        return Dense(self.outputs, name="logits")(x)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes: images (height, width, channels) or signals (time, channels).

    Raises:
        BadInput: the inputs are neither or too small for the stages, or the task wants an output for every position.
    """
    check_images("cnn", shapes, signals=True)
    size = shapes.inputs[:-1]
    if min(size) < config.smallest_size:
        kind, least = (
            ("images", f"{config.smallest_size}x{config.smallest_size} pixels")
            if len(size) == 2
            else ("signals", f"{config.smallest_size} points")
        )
        raise BadInput(
            f"channels={config.channels} with pooling={config.pooling!r} and padding={config.padding!r} take {kind} of "
            f"at least {least}; {kind} of this task have {'x'.join(map(str, size))}"
        )
    return CNN(config, shapes.outputs)


def check_images(family: str, shapes: Shapes, *, signals: bool = False) -> None:
    """Refuse tasks that are not images, or signals where the family takes them, with one output each.

    Raises:
        BadInput: the inputs are no images, or the task wants an output for every position.
    """
    if shapes.vocabulary is not None:
        raise BadInput(f"model {family!r} takes images, and this task gives tokens; rnn and transformer take tokens")
    if len(shapes.inputs) not in ((2, 3) if signals else (3,)):
        raise BadInput(
            f"model {family!r} takes images (height, width, channels){' and signals (time, channels)' * signals}, and "
            f"inputs of this task have shape {shapes.inputs}; mlp takes real inputs of any shape"
        )
    if shapes.per_position:
        raise BadInput(
            f"model {family!r} gives one output for an example, and this task wants one for every position; "
            "rnn and transformer give that"
        )
