"""PyTorch twins of the models: the same layers and parameter counts, each as a PyTorch user writes it.

Initial values are PyTorch's own: they do not change how long a step takes. Dropout is not built, since no
benchmarked study uses it; a configuration that does is refused.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import cnn, mlp, rnn, transformer
from models.base import Configuration, Shapes

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU(approximate="tanh")}


def build(config: Configuration, shapes: Shapes) -> nn.Module:
    """The twin of ``models.build(config, shapes)``. Images come as [batch, channels, height, width]."""
    if getattr(config, "dropout_rate", 0.0):
        raise ValueError(f"the PyTorch twin of {config} has no dropout")
    match config:
        case mlp.Config():
            return _mlp(config, shapes)
        case cnn.Config():
            return _cnn(config, shapes)
        case rnn.Config():
            return LSTM(config, shapes)
        case transformer.Config():
            return Transformer(config, shapes)
    raise ValueError(f"no PyTorch twin of {config}")


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


class LSTM(nn.Module):
    """Embedding (for tokens) or rows of an image, ``nn.LSTM``, linear logits of every or the last step."""

    def __init__(self, config: rnn.Config, shapes: Shapes) -> None:
        super().__init__()
        if config.cell != "lstm":
            raise ValueError(f"no PyTorch twin of cell {config.cell!r}")
        self.per_position = shapes.per_position
        self.table = None
        features = math.prod(shapes.inputs[1:])
        if shapes.vocabulary is not None:
            self.table = nn.Embedding(shapes.vocabulary, config.embedding)
            features = config.embedding
        self.layers = nn.LSTM(features, config.width, config.depth, batch_first=True)
        # PyTorch adds two biases where one does; the second stays 0, so that both sides train the same parameters.
        for name, parameter in self.layers.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(parameter.requires_grad_(False))
        self.logits = nn.Linear(config.width, shapes.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.table is not None:
            x = self.table(inputs)
        else:
            x = inputs.movedim(1, 3).flatten(2) if inputs.ndim == 4 else inputs
        x, _ = self.layers(x)
        return self.logits(x if self.per_position else x[:, -1])


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
        if config.tie_embeddings:
            raise ValueError("no PyTorch twin of tied embeddings")
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
