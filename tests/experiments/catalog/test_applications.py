"""What the heads of the applications' studies say, without training."""

import jax
import pytest

import models
from experiments import plan
from models import ltsf_linear
from models.base import Shapes
from train.data import ett


@pytest.mark.parametrize(("decomposition", "parameters"), [("none", 32_352), ("moving_average", 64_704)])
def test_linear_forecasts_of_etth1_have_the_parameters_of_one_map_for_all_columns(decomposition, parameters):
    shapes = Shapes(inputs=(336, 7), vocabulary=None, outputs=96 * 7, per_position=False)
    model = models.build(ltsf_linear.Config(decomposition=decomposition), shapes)
    found = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 336, 7), float))
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == parameters


@pytest.mark.parametrize("preset", ["cpu", "full"])
def test_forecasting_is_of_the_published_task(preset):
    baseline = plan.load("forecasting", preset).baseline.data
    assert baseline == ett.Config(series="ETTh1", horizon=96, context=336)
