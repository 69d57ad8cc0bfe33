"""The maximal update parametrisation: the factors of the published table, and a coordinate check."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train import mup
from train.config import replace
from train.cost import cost
from train.step import make_step


def batch_of(task):
    return task.sampler.gather(jax.tree.map(jnp.asarray, dict(task.train.arrays)), jnp.arange(16))


def shapes_of(config, task, batch):
    model = models.build(config.model, task.shapes)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), batch.inputs))["params"]


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        ("sgd", {"input": 4, "vector": 4, "hidden": 1, "output": 1 / 4, "last bias": 1}),
        ("adamw", {"input": 1, "vector": 1, "hidden": 1 / 4, "output": 1 / 4, "last bias": 1}),
    ],
)
def test_the_factors_are_those_of_the_table(optimizer, rates, base, images):
    changes = {"optimizer.name": optimizer, "model.width": 64, "model.depth": 2, "initialisation.mup_base_width": 16}
    config, batch = replace(base, changes), batch_of(images)
    found = mup.scaling(config, images.shapes, batch.inputs, shapes_of(config, images, batch))
    kinds = {
        "hidden_0": {"kernel": "input", "bias": "vector"},
        "hidden_1": {"kernel": "hidden", "bias": "vector"},
        "logits": {"kernel": "output", "bias": "last bias"},
    }
    for layer, names in kinds.items():
        for name, kind in names.items():
            factors = found.factors[layer][name]
            assert factors.learning_rate == rates[kind], (layer, name)
            assert factors.weight_decay == (1 / rates[kind] if optimizer == "adamw" else 1)
            assert found.deviations[layer][name] == (0.5 if kind == "output" else 1)


@pytest.mark.slow
def test_at_the_base_width_it_is_the_ordinary_one(base, images):
    batch, states = batch_of(images), []
    for width in (0, 8):
        config = replace(base, {"optimizer.name": "adam", "initialisation.mup_base_width": width})
        step, values = make_step(config, images.shapes, images.objective), traced(config)
        state = step.init(jnp.uint32(0), values, batch)
        states.append(step.train(state, values, batch, {}, jnp.int32(0)).params)
    assert_same_bits(*states)


def growth(base, task, changes, widths, steps=4):
    """Exponents of the width in the size of the activations' change over training, by layer.

    ``sqrt(mean((x_t - x_0)^2))`` of each recorded activation and of the outputs, the mean of two seeds, as a
    power of the width (Yang et al. 2022, appendix D.1).
    """
    batch, sizes = batch_of(task), []
    for width in widths:
        config = replace(base, changes(width))
        step, values = make_step(config, task.shapes, task.objective), traced(config)
        model = models.build(config.model, task.shapes)
        inspect = jax.jit(functools.partial(model.inspect, inputs=batch.inputs, hyperparameters={}))
        init, train = jax.jit(step.init), jax.jit(step.train)
        found = []
        for seed in range(2):
            state = init(jnp.uint32(seed), values, batch)
            outputs, before = inspect({"params": state.params})
            for number in range(steps):
                state = train(state, values, batch, {}, jnp.int32(number))
            after = inspect({"params": state.params})
            change = {"outputs": after[0] - outputs} | {name: after[1][name] - before[name] for name in before}
            found.append({name: float(jnp.sqrt(jnp.mean(jnp.square(leaf)))) for name, leaf in change.items()})
        sizes.append({name: np.mean([each[name] for each in found]) for name in found[0]})
    logs = np.log(widths)
    return {name: np.polyfit(logs, np.log([each[name] for each in sizes]), 1)[0] for name in sizes[0]}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_coordinate_check_of_the_perceptron(optimizer, base, images):
    """The change of every activation is as large at every width; in the ordinary parametrisation it is not."""

    def changes(base_width, width):
        # Rates at which a few steps stay calm: Adam at 0.01 moves so far that 1.55 becomes 0.28 only.
        rates = {"adam": 0.001, "sgd": 0.1}
        return {
            "optimizer.name": optimizer,
            "optimizer.learning_rate": rates[optimizer],
            "model.width": width,
            "model.depth": 3,
            "initialisation.mup_base_width": base_width,
        }

    widths = (128, 256, 512, 1024)
    scaled = growth(base, images, functools.partial(changes, 128), widths)
    ordinary = growth(base, images, functools.partial(changes, 0), widths)
    assert set(scaled) == {"outputs", "activations_0", "activations_1", "activations_2"}
    assert max(abs(exponent) for exponent in scaled.values()) < 0.15, scaled
    assert max(abs(exponent) for exponent in ordinary.values()) > 0.5, ordinary


@pytest.mark.slow
def test_coordinate_check_of_the_transformer(base, text):
    def changes(base_width, width):
        return {
            "model.name": "transformer",
            "model.width": width,
            "model.heads": width // 16,
            "model.feedforward": 2 * width,
            "model.depth": 2,
            "optimizer.name": "adam",
            "optimizer.learning_rate": 0.01,
            "initialisation.mup_base_width": base_width,
        }

    widths = (32, 64, 128)
    scaled = growth(base, text, functools.partial(changes, 32), widths)
    ordinary = growth(base, text, functools.partial(changes, 0), widths)
    residuals = [name for name in scaled if name.endswith("residual")] + ["outputs"]
    assert len(residuals) == 3
    assert max(abs(scaled[name]) for name in residuals) < 0.2, scaled
    assert max(ordinary[name] for name in residuals) > 0.4, ordinary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "cnn"}, "mup_base_width=4: model.name must be one of mlp, transformer, not cnn"),
        ({"model.widths": (8, 4)}, "mup_base_width=4: model.widths must be empty"),
        ({"optimizer.name": "lamb"}, "mup_base_width=4: optimizer.name must be one of .*, not lamb"),
        ({"initialisation.kernels": "orthogonal"}, "initialisation.kernels must be one of"),
        ({"model.name": "transformer", "model.initialisation": "gpt2"}, "model.initialisation must be lecun"),
        (
            {"model.name": "transformer", "model.width": 64, "model.heads": 4},
            "model.heads=4 x 4 / 64 .the share of it at the base width. must be a whole number",
        ),
    ],
)
def test_what_it_is_not_defined_for_is_bad_input(changes, message, base, images):
    with pytest.raises(BadInput, match=message):
        cost(replace(base, {"initialisation.mup_base_width": 4} | changes), images)
