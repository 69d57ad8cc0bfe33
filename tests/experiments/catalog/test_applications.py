"""What the heads of the applications' studies say, without training."""

import jax
import jax.numpy as jnp
import pytest

import models
from experiments import plan
from models import ltsf_linear
from models.base import Configuration, Shapes
from models.inputs import Padded, Pair
from train.data import ett, free_spoken_digits, multi30k

SPECTROGRAMS = Shapes(inputs=(98, 40, 1), vocabulary=None, outputs=10, per_position=False)


def parameters(config: Configuration, shapes: Shapes) -> int:
    model = models.build(config, shapes)
    kind = jnp.float32 if shapes.vocabulary is None else jnp.int32
    inputs = jax.ShapeDtypeStruct((1, *shapes.inputs), kind)
    if shapes.target is not None:
        sides = (inputs, jax.ShapeDtypeStruct((1, shapes.target), kind))
        inputs = Pair(*(Padded(side, jax.ShapeDtypeStruct(side.shape, bool)) for side in sides))
    found = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(found["params"]))


@pytest.mark.parametrize(("decomposition", "count"), [("none", 32_352), ("moving_average", 64_704)])
def test_linear_forecasts_of_etth1_have_the_parameters_of_one_map_for_all_columns(decomposition, count):
    shapes = Shapes(inputs=(336, 7), vocabulary=None, outputs=96 * 7, per_position=False)
    assert parameters(ltsf_linear.Config(decomposition=decomposition), shapes) == count


@pytest.mark.parametrize("preset", ["cpu", "full"])
def test_forecasting_is_of_the_published_task(preset):
    baseline = plan.load("forecasting", preset).baseline.data
    assert baseline == ett.Config(series="ETTh1", horizon=96, context=336)


@pytest.mark.parametrize("preset", ["cpu", "full"])
def test_the_cnn_of_spoken_digits_has_at_most_a_tenth_of_the_parameters(preset):
    study = plan.load("spoken_digits", preset)
    assert study.baseline.data == free_spoken_digits.Config()  # frames every 10 ms of a second, 40 bands
    assert 10 * parameters(study.arms["cnn"]["model"], SPECTROGRAMS) <= parameters(study.baseline.model, SPECTROGRAMS)


@pytest.mark.parametrize(("preset", "vocabularies"), [("cpu", (2_004, 2_004)), ("full", (7_855, 5_893))])
def test_the_transformer_of_translation_has_at_most_half_of_the_parameters(preset, vocabularies):
    """The vocabularies of the preset full are about those of the tutorial: words that occur at least twice."""
    study = plan.load("translation", preset)
    assert isinstance(study.baseline.data, multi30k.Config)
    source, target = vocabularies
    shapes = Shapes(inputs=(20,), vocabulary=source, outputs=target, per_position=True, causal=True, target=21)
    assert 2 * parameters(study.arms["transformer"]["model"], shapes) <= parameters(study.baseline.model, shapes)
