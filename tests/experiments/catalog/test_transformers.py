"""What the studies of Transformers say in their heads and need no training for."""

import math

import pytest

from experiments import plan
from experiments.catalog import lr_sensitivity, transformer_parts
from experiments.study import Better, Equivalent, Monotone
from train import data
from train.cost import cost


@pytest.fixture(scope="module")
def costs():
    """What each arm of a study costs; data that need no download."""
    tasks = {}

    def of(name, preset):
        configs = plan.resolve(plan.load(name, preset)).configs
        for config in configs.values():
            if config.data not in tasks:
                tasks[config.data] = data.load(config.data, None)
        return {arm: cost(config, tasks[config.data]) for arm, config in configs.items()}

    return of


def test_char_lm_has_the_published_sizes():
    for preset, width, depth, context in (("cpu", 128, 4, 64), ("full", 384, 6, 256)):
        baseline = plan.load("char_lm", preset).baseline
        model = baseline.model
        assert (model.width, model.depth, model.feedforward) == (width, depth, 4 * width)
        assert baseline.data.context == context
        # nanoGPT says 0.80M and 10.65M, which leaves out the positions.
        published = {"cpu": 0.80e6, "full": 10.65e6}[preset]
        assert 12 * width**2 * depth + 65 * width == pytest.approx(published, rel=0.01)


def test_the_loss_of_guessing_is_that_of_the_vocabulary():
    for preset in ("smoke", "cpu"):
        study = plan.load("lr_sensitivity", preset)
        vocabulary = data.load(study.baseline.data, None).shapes.vocabulary
        assert vocabulary == lr_sensitivity.CHARACTERS[preset]
        assert study.claims[0].worst == math.log(vocabulary)


def test_every_rate_of_the_sensitivity_has_an_arm_in_each_group():
    study = plan.load("lr_sensitivity", "cpu")
    assert max(lr_sensitivity.RATES) == pytest.approx(1000 * min(lr_sensitivity.RATES))
    assert {arm for claim in study.claims for arm in claim.arms} == {study.baseline_name, *study.arms}


def test_the_claims_on_the_parts_follow_the_published_perplexities():
    published, study = transformer_parts.PUBLISHED, plan.load("transformer_parts", "cpu")
    assert set(published) == {"base", *study.arms}
    for claim in study.claims:
        values = [published[arm] for arm in claim.arms]
        if isinstance(claim, Better):
            assert values[0] < values[1]
        elif isinstance(claim, Monotone):
            assert values == sorted(values, reverse=claim.direction == "falling")
        else:
            assert isinstance(claim, Equivalent)
            assert values[0] == values[1]


def test_context_use_matches_what_is_not_embedding(costs):
    modules = {arm: each.modules for arm, each in costs("context_use", "cpu").items()}
    rest = {
        arm: sum(count for part, count in parts.items() if part not in ("tokens", "logits"))
        for arm, parts in modules.items()
    }
    assert rest["lstm"] == pytest.approx(rest["transformer"], rel=0.02)


def test_attention_that_recalls_has_no_perceptron(costs):
    config = plan.load("associative_recall", "cpu").baseline
    width, depth, vocabulary = config.model.width, config.model.depth, config.data.vocabulary
    block = 4 * width**2 + 4 * width + 2 * width  # four kernels with their biases, and one norm
    found = costs("associative_recall", "cpu")["attention on 4 pairs"].parameters
    assert config.model.positions == "rotary"  # which has no parameters
    assert found == 2 * vocabulary * width + depth * block + 2 * width


def test_attention_has_one_chain_at_every_length_and_a_gru_a_growing_one(costs):
    chains = {arm: each.sequential_products for arm, each in costs("parallelism", "smoke").items()}
    assert chains["attention 16"] == chains["attention 32"] < 16
    assert chains["gru 32"] - chains["gru 16"] == 2 * 16  # forward and backward


def test_the_rate_falls_over_the_labelled_steps_whatever_was_before():
    study = plan.load("masked_lm", "cpu")
    for config in plan.resolve(study).configs.values():
        assert config.schedule.decay_fraction * config.training.steps == pytest.approx(study.baseline.training.steps)
    pretrained = study.arms["pre-trained"]
    assert pretrained["data.masked_steps"] + study.baseline.training.steps == pretrained["training.steps"]
