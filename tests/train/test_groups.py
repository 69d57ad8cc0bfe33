"""Groups of parameters: bit for bit Optax's multi_transform, every parameter once, factors traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.base import BadInput
from tests.train.optimizer_cases import SETTINGS, assert_same_bits, configure, gradients, plain, traced
from train.config import parse_overrides, replace, to_dict, traced_paths
from train.cost import cost
from train.optimization import build
from train.step import make_step

LABELS = {"hidden_0": {"kernel": "hidden", "bias": "bias"}, "logits": {"kernel": "rest", "bias": "bias"}}
FACTORS = {"hidden": (0.25, 3.0), "bias": (1.75, 1.0), "rest": (1.0, 1.0)}
GROUPED = {"groups.patterns": ("hidden_0/kernel", "bias$"), "groups.learning_rates": (0.25, 1.75)}


@pytest.mark.parametrize(
    "case",
    [
        case if case in ("sgd", "momentum", "adam", "adamw") else pytest.param(case, marks=pytest.mark.slow)
        for case in SETTINGS
        if case != "lbfgs"
    ],
)
def test_groups_are_bit_for_bit_optax_multi_transform(case, base):
    decays = {"groups.weight_decays": (3.0, 1.0)} if "weight_decay" in SETTINGS[case] else {}
    config = configure(base, case, **GROUPED, **decays)
    params, sequence = gradients(3)
    ours = build(config, traced(config), params)
    theirs = optax.multi_transform({label: plain(case, *factors) for label, factors in FACTORS.items()}, LABELS)
    results = []
    for optimizer in (ours, theirs):
        state, update, new = optimizer.init(params), jax.jit(optimizer.update), params
        for gradient in sequence:
            updates, state = update(gradient, state, new)
            new = optax.apply_updates(new, updates)
        results.append(new)
    assert_same_bits(*results)
    changed = jax.tree.map(lambda a, b: bool((a != b).all()), results[0], params)
    assert jax.tree.all(changed)


def test_without_patterns_there_are_no_groups_in_the_program(base, images):
    config = configure(base, "adamw")
    params, _ = gradients(1)
    assert not [path for path in traced_paths([config]) if path.startswith("groups")]
    state = build(config, traced(config), params).init(params)
    assert not isinstance(state, optax.transforms.PartitionState)


@pytest.mark.slow
def test_a_factor_of_zero_freezes_a_group(base, images):
    config = replace(base, {"groups.patterns": ("hidden",), "groups.learning_rates": (0.0,)})
    step, values = make_step(config, images.shapes, images.objective), traced(config)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    start = step.init(jnp.uint32(0), values, batch)
    state = step.train(start, values, batch, {}, jnp.int32(0))
    assert_same_bits(state.params["hidden_0"], start.params["hidden_0"])
    assert (state.params["logits"]["kernel"] != start.params["logits"]["kernel"]).any()


@pytest.mark.slow
def test_schedule_free_groups_are_evaluated_at_their_averages(base, images):
    """With equal factors the average is that of one group, whatever the groups."""
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    results = []
    for changes in ({}, {"groups.patterns": ("hidden", "bias")[:1]}):
        config = configure(base, "schedule_free", **changes)
        step, values = make_step(config, images.shapes, images.objective), traced(config)
        state, train = step.init(jnp.uint32(0), values, batch), jax.jit(step.train)
        for number in range(4):
            state = train(state, values, batch, {}, jnp.int32(number))
        results.append((state.params, step.evaluated(state, values)["params"]))
    for one, other in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert not np.allclose(results[0][0]["logits"]["kernel"], results[0][1]["logits"]["kernel"], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups.patterns": ("hiden",)}, r"groups.patterns='hiden' finds no parameter; there are hidden_0/bias, hid"),
        ({"groups.patterns": ("hidden", "kernel")}, "'hidden' and 'kernel' both find hidden_0/kernel"),
    ],
)
def test_patterns_that_do_not_fit_the_parameters_are_bad_input(changes, message, base, images):
    with pytest.raises(BadInput, match=message):
        cost(replace(base, changes), images)  # which nothing compiles before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups.patterns": ("a(",)}, "must be a regular expression"),
        ({"groups.patterns": ("a,b",)}, "without commas"),
        ({"groups.patterns": ("a", "b"), "groups.learning_rates": (1.0,)}, "learning_rates=.* must be 2 numbers"),
        ({"groups.learning_rates": (2.0,)}, "must be 0 numbers"),
        ({"groups.patterns": ("a",), "groups.learning_rates": (-1.0,)}, "must be at least 0"),
        ({"optimizer.name": "lbfgs", "groups.patterns": ("a",)}, "without a line search"),
        ({"optimizer.name": "adam", "groups.patterns": ("a",), "groups.weight_decays": (2.0,)}, "adam does not"),
    ],
)
def test_wrong_values_are_one_line(changes, message, base):
    with pytest.raises(BadInput, match=message) as error:
        replace(base, changes)
    assert "\n" not in str(error.value)


def test_groups_are_spelled_as_lists(base):
    overrides = [("groups.patterns", "(hidden|x)_0,logits"), ("groups.learning_rates", "0.5,2")]
    groups = replace(base, parse_overrides(base, overrides)).groups
    assert groups.patterns == ("(hidden|x)_0", "logits")
    assert groups.learning_rates == (0.5, 2.0)
    assert groups.weight_decays == (1.0, 1.0)
    assert to_dict(base)["groups"] == {"patterns": (), "learning_rates": (), "weight_decays": ()}
