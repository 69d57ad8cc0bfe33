"""PyTorch twins of the models: the same layers and parameter counts, each as a PyTorch user writes it.

Initial values are PyTorch's own: they do not change how long a step takes. A configuration with an option that its
twin does not have, such as dropout, is refused.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import cnn, encoder_decoder, mlp, resnet, rnn, seq2seq, tcn, text_cnn, transformer
from models.base import Configuration, Shapes, fields
from models.inputs import Padded, Pair
from tests.benchmarks import torch_sequences

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU(approximate="tanh")}

INITIAL = {"recurrent_init", "input_init", "forget_bias", "initialisation", "scale_residual"}
"""Options of initial values."""


class Twin(NamedTuple):
    """How a family is built in PyTorch, and the fields of its configuration that may differ from their defaults."""

    build: Callable[[Any, Shapes], nn.Module]
    fields: set[str]


def build(config: Configuration, shapes: Shapes) -> nn.Module:
    """The twin of ``models.build(config, shapes)``. Images come as [batch, channels, height, width].

    Raises:
        ValueError: there is no twin of the family, or it lacks an option of the configuration.
    """
    if type(config) not in TWINS:
        raise ValueError(f"no PyTorch twin of {config}")
    twin = TWINS[type(config)]
    default = type(config)()
    for name in fields(type(config)):
        wanted = 0.0 if name == "dropout_rate" else getattr(default, name)
        if getattr(config, name) != wanted and name not in twin.fields | INITIAL:
            raise ValueError(f"the PyTorch twin of {config.name} has no {name}={getattr(config, name)}")
    return twin.build(config, shapes)


def tensors(array: Any) -> tuple[Tensor, ...]:
    """An array of a split as a model here takes it: without masks, source and target apart, images channels first."""
    if isinstance(array, Pair):
        return (*tensors(array.source), *tensors(array.target))
    if isinstance(array, Padded):
        return tensors(array.values)
    tensor = torch.from_numpy(array.copy())
    if not tensor.is_floating_point():
        return (tensor.long(),)
    return (tensor.movedim(3, 1).contiguous() if tensor.ndim == 4 else tensor,)


def parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _mlp(config: mlp.Config, shapes: Shapes) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(shapes.inputs)
    for _ in range(config.depth):
        layers += [nn.Linear(features, config.width), ACTIVATIONS[config.activation]()]
        features = config.width
    return nn.Sequential(*layers, nn.Linear(features, shapes.outputs))


def _cnn(config: cnn.Config, shapes: Shapes) -> nn.Module:
    layers: list[nn.Module] = []
    height, width, channels = shapes.inputs
    for features in config.channels:
        layers += [nn.Conv2d(channels, features, config.kernel_size, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
        height, width, channels = height // 2, width // 2, features
    layers.append(nn.Flatten())
    size = height * width * channels
    if config.width:
        layers += [nn.Linear(size, config.width), nn.ReLU()]
        size = config.width
    return nn.Sequential(*layers, nn.Linear(size, shapes.outputs))


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation; zeros for the channels that are new to the shortcut."""

    def __init__(self, channels: int, features: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.stride, self.new = stride, features - channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, features, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(features, momentum=momentum),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features, momentum=momentum),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.new:
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return functional.relu(self.layers(x) + shortcut, inplace=True)


def _resnet(config: resnet.Config, shapes: Shapes) -> nn.Module:
    momentum = 1 - config.norm_momentum
    channels = config.stem
    layers: list[nn.Module] = [
        nn.Conv2d(shapes.inputs[2], channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels, momentum=momentum),
        nn.ReLU(inplace=True),
    ]
    for stage, (features, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
        for block in range(blocks):
            layers.append(ResidualBlock(channels, features, 2 if stage and not block else 1, momentum))
            channels = features
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, shapes.outputs))


class Recurrent(nn.Module):
    """Embedding (for tokens) or rows of an image, recurrent layers, linear logits of every or the last step."""

    def __init__(self, config: rnn.Config, shapes: Shapes) -> None:
        super().__init__()
        self.per_position, self.width = shapes.per_position, config.width
        self.table = None
        features = math.prod(shapes.inputs[1:])
        if shapes.vocabulary is not None:
            self.table = nn.Embedding(shapes.vocabulary, config.embedding)
            features = config.embedding
        layers = {"vanilla": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[config.cell]
        self.layers = layers(features, config.width, config.depth, batch_first=True, bidirectional=config.bidirectional)
        # PyTorch adds two biases where one does, but in the GRU; the second stays 0, so that both sides train the
        # same parameters.
        for name, parameter in self.layers.named_parameters():
            if name.startswith("bias_hh") and config.cell != "gru":
                nn.init.zeros_(parameter.requires_grad_(False))
        self.logits = nn.Linear(config.width * (1 + config.bidirectional), shapes.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.table is not None:
            x = self.table(inputs)
        else:
            x = inputs.movedim(1, 3).flatten(2) if inputs.ndim == 4 else inputs
        x, _ = self.layers(x)
        if self.per_position:
            return self.logits(x)
        if not self.layers.bidirectional:
            return self.logits(x[:, -1])
        return self.logits(torch.cat([x[:, -1, : self.width], x[:, 0, self.width :]], 1))


class Block(nn.Module):
    """A pre-normalised Transformer block on ``scaled_dot_product_attention``."""

    def __init__(self, config: transformer.Config, causal: bool) -> None:
        super().__init__()
        width = config.width
        self.heads, self.causal = config.heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=config.use_bias)
        self.out = nn.Linear(width, width, bias=config.use_bias)
        self.feedforward = nn.Sequential(
            nn.Linear(width, config.feedforward, bias=config.use_bias),
            ACTIVATIONS[config.activation](),
            nn.Linear(config.feedforward, width, bias=config.use_bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        projected = self.queries_keys_values(self.norm_1(x)).view(batch, time, 3, self.heads, width // self.heads)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        return x + self.feedforward(self.norm_2(x))


class Transformer(nn.Module):
    """Encoder of image patches, or decoder of tokens as GPT-2."""

    def __init__(self, config: transformer.Config, shapes: Shapes) -> None:
        super().__init__()
        self.per_position = shapes.per_position
        self.inputs: nn.Module
        if shapes.vocabulary is not None:
            positions = shapes.inputs[0]
            self.inputs = nn.Embedding(shapes.vocabulary, config.width)
        else:
            size = config.patch_size
            height, width, channels = shapes.inputs
            positions = (height // size) * (width // size)
            project = nn.Linear(size**2 * channels, config.width, bias=config.use_bias)
            self.inputs = nn.Sequential(Patches(size), project)
        self.positions = nn.Parameter(0.02 * torch.randn(positions, config.width))
        self.blocks = nn.Sequential(*(Block(config, shapes.causal) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.logits = nn.Linear(config.width, shapes.outputs, bias=not shapes.per_position)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.inputs(inputs) + self.positions))
        return self.logits(x if self.per_position else x.mean(1))


class Patches(nn.Module):
    """[batch, channels, height, width] to [batch, patches, values]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        size = self.size
        grid = images.view(batch, channels, height // size, size, width // size, size)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, size * size * channels)


def optimizer(model: nn.Module, config: Any, *, fused: bool) -> torch.optim.Optimizer:
    """Adam or AdamW of a study's configuration; biases and the scales of normalisation are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    shared = {"lr": config.learning_rate, "betas": (config.b1, config.b2), "eps": config.eps, "fused": fused}
    if config.name == "adam":
        return torch.optim.Adam(trained, **shared)
    if config.name != "adamw":
        raise ValueError(f"no PyTorch twin of optimizer {config.name!r}")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, **shared)


SIZES = {"width", "depth", "embedding"}
BLOCKS = {"width", "depth", "heads", "feedforward"}

TWINS: dict[type[Configuration], Twin] = {
    mlp.Config: Twin(_mlp, SIZES | {"activation"}),
    cnn.Config: Twin(_cnn, {"channels", "kernel_size", "width"}),
    resnet.Config: Twin(_resnet, {"depth", "width", "width_multiplier", "norm_momentum"}),
    rnn.Config: Twin(Recurrent, SIZES | {"cell", "bidirectional"}),
    tcn.Config: Twin(torch_sequences.TCN, SIZES | {"kernel_size"}),
    text_cnn.Config: Twin(torch_sequences.TextCNN, {"embedding", "channels", "kernel_sizes"}),
    seq2seq.Config: Twin(torch_sequences.Seq2Seq, {"width", "embedding"}),
    transformer.Config: Twin(Transformer, BLOCKS | {"activation", "use_bias", "patch_size"}),
    encoder_decoder.Config: Twin(torch_sequences.EncoderDecoder, BLOCKS),
}
"""The twin of each family by the class of its configuration."""
