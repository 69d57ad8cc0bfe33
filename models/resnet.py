"""Residual networks: the forms for CIFAR and ImageNet, plain twins, pre-activation, wide, stochastic depth."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static, Traced, check_divides
from models.cnn import check_images
from models.layers.convolution import Conv
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.normalisation import Kind, Norm
from models.layers.pooling import global_average_pool, max_pool
from models.layers.recording import record

IMAGENET_BLOCKS = {
    ("basic", 18): (2, 2, 2, 2),
    ("basic", 34): (3, 4, 6, 3),
    ("bottleneck", 50): (3, 4, 6, 3),
    ("bottleneck", 101): (3, 4, 23, 3),
    ("bottleneck", 152): (3, 8, 36, 3),
}
"""Blocks of each stage by block and depth (He et al. 2016, table 1)."""

LAYERS = {"basic": 2, "bottleneck": 3}
"""Convolutions of a block."""

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Output channels of a block, in units of the stage's width."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A residual network (He et al. 2016, "Deep Residual Learning for Image Recognition").

    The defaults are ResNet-20 of section 4.2. ``shortcut="none"`` is its plain twin. ResNet-50 of table
    1 is ``form="imagenet", depth=50, block="bottleneck", shortcut="projection"``. WRN-28-10 of Zagoruyko
    and Komodakis 2016, "Wide Residual Networks", is ``depth=28, width_multiplier=10,
    shortcut="projection", preactivation=True``.

    What differs from the papers: a bottleneck block has its stride in the 3x3 convolution, as PyTorch
    and everybody since; the paper has it in the first 1x1. Stochastic depth draws for each example
    instead of each batch, and divides by the survival probability in training instead of
    multiplying by it in evaluation.

    Attributes:
        form: ``cifar``: a 3x3 stem and 3 stages of 16, 32 and 64 channels (section 4.2). ``imagenet``: a
            7x7 stem of stride 2, 3x3 max pooling of stride 2 and 4 stages of 64, 128, 256 and 512 (table
            1).
        depth: number of layers with weights. ``cifar``: 6n + 2 with basic blocks, 9n + 2 with
            bottlenecks; or 6n + 4 (9n + 4) as Zagoruyko and Komodakis count, with the projections and
            without the dense layer, for ``shortcut="projection"``. ``imagenet``: 18 or 34 with basic
            blocks, 50, 101 or 152 with bottlenecks.
        block: ``basic``: two 3x3 convolutions; ``bottleneck``: 1x1, 3x3 and 1x1 with four times the channels
            (section 4.1, figure 5).
        shortcut: ``identity`` pads new channels with zeros (section 3.3, option A); ``projection`` is a
            1x1 convolution where the shape changes (option B); ``none`` takes all shortcuts out and
            changes nothing else (the paper's plain networks).
        preactivation: normalisation and rectifier come before each convolution, and the sum stays
            as it is (He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 4 e).
        width: channels of the first stage; each later one has twice as many. None is the form's own,
            16 or 64.
        width_multiplier: factor of the channels of all stages but the stem (Zagoruyko and Komodakis, k).
        normalisation: ``batch`` (Ioffe and Szegedy 2015), ``group`` (Wu and He 2018), ``layer`` (Ba et al.
            2016) or ``none``. Convolutions have a bias without it only, since it brings its own.
        norm_groups: groups of ``group``; must divide every number of channels. Wu and He take 32.
        norm_momentum: of the running averages of ``batch``: ``r <- m r + (1 - m) batch``.
        dropout_rate: probability of dropping an input of a block's second convolution (Zagoruyko
            and Komodakis, section 2.4), of its 3x3 one in a bottleneck.
        survival_rate: probability that the last block survives; block l of L survives with
            ``1 - l / L (1 - survival_rate)`` (Huang et al. 2016, "Deep Networks with Stochastic Depth",
            equation 4). They take 0.5.
    """

    form: Annotated[Literal["cifar", "imagenet"], Static()] = "cifar"
    depth: Annotated[int, Static(ge=1)] = 20
    block: Annotated[Literal["basic", "bottleneck"], Static()] = "basic"
    shortcut: Annotated[Literal["identity", "projection", "none"], Static()] = "identity"
    preactivation: Annotated[bool, Static()] = False
    width: Annotated[int | None, Static(ge=1)] = None
    width_multiplier: Annotated[int, Static(ge=1)] = 1
    normalisation: Annotated[Kind, Static()] = "batch"
    norm_groups: Annotated[int, Static(ge=1)] = 8
    norm_momentum: Annotated[float, Traced(ge=0, le=1)] = 0.9
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    survival_rate: Annotated[float, Traced(gt=0, le=1, off=1.0)] = 1.0

    def validate(self) -> None:
        """Raise BadInput where there is no network of that depth, or fields do not fit each other."""
        self._check_depth()
        if self.shortcut == "none" and self.survival_rate != 1:
            raise BadInput(
                f"survival_rate={self.survival_rate} drops blocks, and without shortcuts nothing would be left: "
                "shortcut must be identity or projection"
            )
        for channels in sorted({self.stem, *self.widths}) if self.normalisation == "group" else ():
            check_divides("norm_groups", self.norm_groups, "channels", channels)

    def _check_depth(self) -> None:
        if self.form == "imagenet":
            valid = [depth for block, depth in IMAGENET_BLOCKS if block == self.block]
            if self.depth not in valid:
                raise BadInput(
                    f"depth={self.depth} must be {' or '.join(map(str, valid))} for form='imagenet' with "
                    f"block={self.block!r}"
                )
            return
        unit = 3 * LAYERS[self.block]
        offsets = (2, 4) if self.shortcut == "projection" else (2,)
        if self.depth < unit + 2 or (self.depth % unit) not in offsets:
            n = max(1, self.depth // unit)
            candidates = [count * unit + offset for count in {max(1, n - 1), n, n + 1} for offset in offsets]
            nearest = sorted(sorted(candidates, key=lambda depth: abs(depth - self.depth))[:2])
            raise BadInput(
                f"depth={self.depth} must be {' or '.join(f'{unit}n + {offset}' for offset in offsets)} for "
                f"form='cifar' with block={self.block!r}; the nearest: {' and '.join(map(str, nearest))}"
            )

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of blocks in each stage."""
        if self.form == "imagenet":
            return IMAGENET_BLOCKS[self.block, self.depth]
        return (self.depth // (3 * LAYERS[self.block]),) * 3

    @property
    def stem(self) -> int:
        """Output channels of the first convolution."""
        return self.width or {"cifar": 16, "imagenet": 64}[self.form]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels inside the blocks of each stage; their outputs have :data:`EXPANSION` times as many."""
        return tuple(self.stem * self.width_multiplier * 2**stage for stage in range(len(self.blocks)))


class Block(nn.Module):
    """A residual block: ``y = relu(F(x) + shortcut(x))``, or pre-activated ``y = F(relu(norm(x))) + shortcut``.

    In a pre-activated block that changes the shape, the shortcut begins from the activated input
    (He et al. 2016, "Identity Mappings", appendix). The projection is followed by a normalisation,
    except in pre-activated blocks.

    Attributes:
        config: of the network.
        width: channels inside.
        stride: of the convolution that shrinks the image.
        is_activated: pre-activated blocks: the input has been normalised and rectified already.
    """

    config: Config
    width: int
    stride: int
    is_activated: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        momentum: float | Float[Array, ""],
        dropout_rate: float | Float[Array, ""],
        death_rate: float | Float[Array, ""],
    ) -> Float[Array, "batch out_height out_width features"]:
        """Activations after the block.

        Args:
            x: activations before it.
            train: whether batch statistics and random draws are those of training.
            momentum: of running averages.
            dropout_rate: probability of dropping an input of the second convolution.
            death_rate: probability of leaving F out, for each example.
        """
        preactivation = self.config.preactivation

        def norm(x: Array, name: str) -> Array:
            module = Norm(self.config.normalisation, self.config.norm_groups, name=name)
            return module(x, train=train, momentum=momentum)

        features = self.width * EXPANSION[self.config.block]
        changes_shape = self.stride != 1 or x.shape[-1] != features
        y = jax.nn.relu(norm(x, "norm_0")) if preactivation and not self.is_activated else x
        shortcut = y if changes_shape else x
        layers = self._layers(features)
        for number, (channels, size, stride) in enumerate(layers):
            if number and preactivation:
                y = jax.nn.relu(norm(y, f"norm_{number}"))
            y = Dropout(name=f"dropout_{number}")(y, dropout_rate, train=train) if number == 1 else y
            y = convolution(self.config, channels, size, stride, name=f"conv_{number}")(y)
            if not preactivation:
                y = norm(y, f"norm_{number}")
                y = jax.nn.relu(y) if number < len(layers) - 1 else y
        record(self, "residual", lambda: y)
        if self.config.shortcut != "none":
            if changes_shape and self.config.shortcut == "projection":
                shortcut = convolution(self.config, features, 1, self.stride, name="projection")(shortcut)
                shortcut = shortcut if preactivation else norm(shortcut, "projection_norm")
            elif changes_shape:
                shortcut = _padded(shortcut, features, self.stride)
            y = Dropout(shared_axes=(1, 2, 3), name="death")(y, death_rate, train=train) + shortcut
        return y if preactivation else jax.nn.relu(y)

    def _layers(self, features: int) -> list[tuple[int, int, int]]:
        """(channels, kernel size, stride) of each convolution."""
        if self.config.block == "basic":
            return [(self.width, 3, self.stride), (self.width, 3, 1)]
        return [(self.width, 1, 1), (self.width, 3, self.stride), (features, 1, 1)]


def convolution(config: Config, features: int, size: int, stride: int, *, name: str) -> Conv:
    """A convolution with as many zeros on either side, which is not ``SAME`` where the stride is 2."""
    pad = (size - 1) // 2
    return Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=config.normalisation == "none",
        name=name,
    )


def _padded(x: Array, features: int, stride: int) -> Array:
    """Option A: every ``stride``-th pixel, and zeros for the channels that are new."""
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


class ResNet(nn.Module):
    """Stem, stages of blocks, global average pooling, dense logits.

    The first block of each stage but the first halves height and width. Kernels begin as He's
    normal (He et al. 2015, "Delving Deep into Rectifiers", equation 10), that of the logits as
    LeCun's (variance 1 / inputs); scales begin at 1, biases at 0.

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
        config = self.config
        momentum = hyperparameters.get("norm_momentum", config.norm_momentum)
        dropout_rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        last_death_rate = 1 - hyperparameters.get("survival_rate", config.survival_rate)

        def activated(x: Array, name: str) -> Array:
            norm = Norm(config.normalisation, config.norm_groups, name=name)
            return jax.nn.relu(norm(x, train=train, momentum=momentum))

        size, stride = (7, 2) if config.form == "imagenet" else (3, 1)
        x = activated(convolution(config, config.stem, size, stride, name="stem")(inputs), "stem_norm")
        if config.form == "imagenet":
            x = max_pool(x, 3, 2, ((1, 1), (1, 1)))
        number, total = 0, sum(config.blocks)
        for stage, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for index in range(blocks):
                number += 1
                block = Block(
                    config,
                    width,
                    stride=2 if stage and not index else 1,
                    is_activated=number == 1,
                    name=f"stage_{stage}_block_{index}",
                )
                x = block(
                    x,
                    train=train,
                    momentum=momentum,
                    dropout_rate=dropout_rate,
                    death_rate=last_death_rate * (number / total),
                )
                record(self, f"stage_{stage}_block_{index}_outputs", lambda x=x: x)
        x = activated(x, "final_norm") if config.preactivation else x
        return Dense(self.outputs, name="logits")(global_average_pool(x))


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes; images of any size will do.

    Raises:
        BadInput: the inputs are no images, or the task wants an output for every position.
    """
    check_images("resnet", shapes)
    return ResNet(config, shapes.outputs)
