"""The studies of layers, neurons and regularisers: what their heads say and needs no training."""

import math

import pytest

from experiments import plan
from experiments.catalog import scaling_law, weight_penalties
from models import mlp
from train.data import sparse_regression


@pytest.mark.slow
def test_the_sizes_of_capacity_lie_on_either_side_of_the_number_of_examples(parameters):
    """A perceptron 40-h-h-10 has 41 h + (h + 1) h + (h + 1) 10 parameters."""
    sizes = parameters("capacity", "cpu")
    for width in (9, 16, 47, 61, 300):
        assert sizes[f"{width}"] == 41 * width + (width + 1) * width + (width + 1) * 10
    assert sizes["16"] < 4_000 < sizes["47"]


def test_dropout_has_the_papers_perceptron():
    config = plan.load("dropout", "full").baseline
    assert isinstance(config.model, mlp.Config)
    assert config.model.sizes == (1024, 1024, 2048)
    assert plan.load("weight_penalties", "full").baseline.model == config.model
    narrow = plan.load("dropout", "cpu").baseline.model
    assert isinstance(narrow, mlp.Config)
    assert narrow.sizes == (256, 256, 512)


def test_examples_suffice_for_the_lasso_and_not_for_least_squares():
    config = plan.load("weight_penalties", "cpu").baseline.data
    assert isinstance(config, sparse_regression.Config)
    facts = sparse_regression.load(config, None).facts
    assert facts["examples_lasso_needs"] == math.ceil(2 * 20 * math.log(980)) == 276
    assert facts["examples_lasso_needs"] < config.train_examples < config.features
    assert facts["least_mse"] == 0.25
    claims = plan.load("weight_penalties", "cpu").claims
    assert any(getattr(claim, "high", None) == 2 * facts["least_mse"] for claim in claims)
    assert weight_penalties.ERRORS["dropout + max-norm"] == 0.0105


def test_sizes_of_the_scaling_law_are_parameters_without_embeddings(parameters):
    """The rest is embeddings, positions, logits, biases and scales, which grow with the width and not its square."""
    sizes, widths = parameters("scaling_law", "cpu"), (16, 32, 64)
    rest = [sizes[f"width {width}"] - scaling_law.kaplan_size(2, width) for width in widths]
    assert (rest[2] - rest[1]) / (rest[1] - rest[0]) == pytest.approx(2, rel=0.01)
