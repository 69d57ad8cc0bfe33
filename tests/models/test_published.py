"""Published networks: their parameters to the last digit that is stated, and their operations."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from models import build, encoder_decoder
from models.base import Shapes
from models.inputs import Padded, Pair
from models.published import PUBLISHED
from models.summary import flops, parameters


def inputs_of(shapes, batch=1):
    values = jax.ShapeDtypeStruct((batch, *shapes.inputs), jnp.float32 if shapes.vocabulary is None else jnp.int32)
    if shapes.target is None:
        return values
    target = jax.ShapeDtypeStruct((batch, shapes.target), jnp.int32)
    masks = [jax.ShapeDtypeStruct(array.shape[:2], jnp.bool_) for array in (values, target)]
    return Pair(Padded(values, masks[0]), Padded(target, masks[1]))


def count(config, shapes):
    return sum(parameters(build(config, shapes), inputs_of(shapes)).values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name):
    published = PUBLISHED[name]
    counted = count(published.config, published.shapes) - published.uncounted
    assert round(counted / published.digit) * published.digit == published.parameters


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        # By hand: convolutions and dense layers with biases.
        ("lenet5", (25 + 1) * 6 + (150 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10),
        # PyTorch's torchvision.models.
        ("vgg16", 138_357_544),
        # By hand: the stem, 3 blocks a stage of two convolutions, a scale and a shift after each, 10 logits.
        ("resnet20", 432 + 9 * (6 * 256 + 512 + 5 * 1024 + 2048 + 5 * 4096) + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 650),
        # The released weights with the masked language model's head, and ViT-B/16 with its 1,000 logits.
        ("bert_base", 109_514_298),
        ("vit_b16", 86_567_656),
    ],
)
def test_parameters_to_the_last_one(name, exact):
    assert count(PUBLISHED[name].config, PUBLISHED[name].shapes) == exact


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"key_size": 16, "value_size": 64}, 58),
        ({"key_size": 32, "value_size": 64}, 60),
        ({"depth": 2}, 36),
        ({"depth": 4}, 50),
        ({"depth": 8}, 80),
        ({"width": 256, "key_size": 32, "value_size": 32}, 28),
        ({"width": 1024, "key_size": 128, "value_size": 128}, 168),
        ({"feedforward": 1024}, 53),
        ({"feedforward": 4096}, 90),
    ],
    ids=str,
)
def test_the_variations_of_the_transformer(changes, millions):
    """Vaswani et al. 2017, table 3, rows B and C: they settle the vocabulary that the counts are made with."""
    config = dataclasses.replace(encoder_decoder.BASE, **changes)
    assert round(count(config, PUBLISHED["transformer_base"].shapes) / 1e6) == millions


def test_the_transformer_with_37000_tokens():
    shapes = Shapes(inputs=(256,), vocabulary=37_000, outputs=37_000, per_position=True, target=256)
    encoder, decoder = 4 * 513 * 512, 8 * 513 * 512
    perceptron = 513 * 2048 + 2049 * 512
    blocks = 6 * (encoder + perceptron + 4 * 512) + 6 * (decoder + perceptron + 6 * 512)
    assert count(encoder_decoder.BASE, shapes) == 37_000 * 512 + blocks


@pytest.mark.parametrize(
    ("name", "billions"),
    # He et al. 2016, table 1, in multiply-adds. ResNet-50 has its strides elsewhere: 4.1 for the paper's 3.8.
    [("resnet18", 1.8), ("resnet34", 3.6), ("resnet50", 4.1), ("vgg16", 15.5)],
)
def test_multiply_adds(name, billions):
    published = PUBLISHED[name]
    counted = flops(build(published.config, published.shapes), inputs_of(published.shapes)) / 2e9
    assert counted == pytest.approx(billions, rel=0.02)
