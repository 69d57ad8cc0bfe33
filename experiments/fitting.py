"""What fits a task: the families of models that can treat it, and the metric by which they are compared."""

import dataclasses
import math
from typing import Literal

import models
from experiments.metric import Metric
from models import (
    cnn,
    encoder_decoder,
    ltsf_linear,
    mlp,
    resnet,
    rnn,
    seq2seq,
    tcn,
    text_cnn,
    transformer,
)
from models.base import BadInput, Configuration, Shapes
from train.data.task import Task

Size = Literal["tiny", "small", "large"]

_WIDTHS = {"tiny": 8, "small": 64, "large": 256}
_DEPTHS = {"tiny": 1, "small": 2, "large": 4}

MOST_PATCHES = 256
"""Patches of an image that attention is asked to compare with each other."""


def metric(task: Task) -> Metric:
    """What is reported of such a task: BLEU or exact matches, bits, accuracy, squared error."""
    names = task.objective.metrics
    if task.decoding is not None:
        name = task.decoding.metrics[0]
        label = {"bleu": "test BLEU", "exact_match": "test exact matches"}[name]
        # What is decoded is measured at the end only.
        return dataclasses.replace(Metric.on_test(name, label), curve="validation_loss")
    bits = [name for name in names if name.startswith("bits_per_")]
    shares = [name for name in ("string_accuracy", "accuracy") if name in names]
    name = (bits or shares or list(names))[0]
    return Metric.on_test(name, "test MSE" if name == "mse" else None)


def families(task: Task, size: Size) -> dict[str, Configuration]:
    """The families that can treat the task, the simplest first, each at a usual size.

    Raises:
        BadInput: fewer than two can.
    """
    found = {name: config for name, config in _candidates(task, size).items() if _fits(config, task.shapes)}
    if len(found) < 2:
        known = ", ".join(found) or "none"
        raise BadInput(f"data set {task.name!r} leaves nothing to choose: of the families, {known} can treat it")
    return found


def _candidates(task: Task, size: Size) -> dict[str, Configuration]:
    """What might fit, by name: a task of tokens has no linear model, a forecast has one for each channel."""
    shapes, width, depth = task.shapes, _WIDTHS[size], _DEPTHS[size]
    channels = (width // 4, width // 2)
    found: dict[str, Configuration] = {}
    if "mase" in task.objective.metrics:
        found["linear"] = ltsf_linear.Config()
    else:
        found["linear"] = mlp.Config(depth=0)
    found |= {"mlp": mlp.Config(depth=2, width=2 * width), "cnn": cnn.Config(channels=channels)}
    if shapes.vocabulary is not None:
        found["text_cnn"] = text_cnn.Config(embedding=width, channels=width)
    found["resnet"] = resnet.Config(depth=6 * depth + 2, width=width // 4)
    found["lstm"] = rnn.Config(cell="lstm", width=width, embedding=width)
    if not shapes.per_position and len(shapes.inputs) < 3:
        found["bidirectional_lstm"] = rnn.Config(cell="lstm", width=width, embedding=width, bidirectional=True)
    if shapes.per_position:
        found["gru"] = rnn.Config(cell="gru", width=width, embedding=width)
    if len(shapes.inputs) < 3:
        found["tcn"] = tcn.Config(width=width // 2, depth=_blocks(shapes), embedding=width)
    patch = _patch_size(shapes)
    if patch is not None:
        found["transformer"] = transformer.Config(
            width=width, depth=depth, heads=4, feedforward=2 * width, patch_size=patch
        )
    found["seq2seq"] = seq2seq.Config(width=width, embedding=width)
    found["encoder_decoder"] = encoder_decoder.Config(width=width, depth=depth, heads=4, feedforward=2 * width)
    return found


def _fits(config: Configuration, shapes: Shapes) -> bool:
    try:
        models.build(config, shapes)
    except BadInput:
        return False
    return True


def _blocks(shapes: Shapes) -> int:
    """Blocks of a TCN whose outputs see about the whole sequence: kernels of 3, dilations 1, 2, 4, ..."""
    return max(1, min(8, math.ceil(math.log2(shapes.inputs[0] / 4 + 1))))


def _patch_size(shapes: Shapes) -> int | None:
    """The side of an image's patches, about a quarter of its own at the most; 1 for a sequence.

    None where no size cuts the image into few enough.
    """
    if len(shapes.inputs) < 3:
        return 1
    height, width = shapes.inputs[:2]
    sides = [side for side in range(1, max(1, min(height, width) // 4) + 1) if height % side == 0 == width % side]
    side = max(sides)
    return side if (height // side) * (width // side) <= MOST_PATCHES else None
