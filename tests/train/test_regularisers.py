"""Regularisers of the step against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.config import leaves, replace, traced_paths
from train.step import make_step


def traced(config):
    values: dict = {}
    columns = dict(leaves(config))
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        values.setdefault(section, {})[name] = jnp.float32(columns[path].value)
    return values


def run(base, task, steps=1, **settings):
    """The states after each of some steps on one batch, the first being the start."""
    config = replace(base, {path.replace("__", "."): value for path, value in settings.items()})
    step, values = make_step(config, task.shapes, task.objective), traced(config)
    batch = task.sampler.gather({k: jnp.asarray(v) for k, v in task.train.arrays.items()}, jnp.arange(8))
    states = [step.init(jnp.uint32(1), values, batch)]
    for number in range(steps):
        states.append(step.train(states[-1], values, batch, {}, jnp.int32(number)))
    return step, values, batch, states


def forward(params, inputs):
    """The perceptron of one hidden layer in NumPy, float64: hidden units and logits."""
    x = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
    params = jax.tree.map(np.float64, params)
    hidden = np.maximum(x @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"], 0)
    return hidden, hidden @ params["logits"]["kernel"] + params["logits"]["bias"]


def test_z_loss_is_the_squared_log_partition_and_its_gradient(base, images):
    rate = base.optimizer.learning_rate
    *_, batch, plain = run(base, images)
    *_, states = run(base, images, regularisation__z_loss=0.3)
    hidden, logits = forward(plain[0].params, batch.inputs)
    log_z = np.log(np.exp(logits).sum(1))
    np.testing.assert_allclose(states[1].loss_sum - plain[1].loss_sum, 0.3 * np.mean(log_z**2), rtol=1e-4)
    softmax = np.exp(logits - log_z[:, None])
    extra = hidden.T @ (0.3 * 2 * log_z[:, None] * softmax) / len(logits)
    found = states[1].params["logits"]["kernel"] - plain[1].params["logits"]["kernel"]
    np.testing.assert_allclose(found, -rate * extra, rtol=1e-3, atol=1e-6)


def test_max_norm_shortens_the_columns_that_are_too_long(base, images):
    *_, free = run(base, images)
    *_, states = run(base, images, regularisation__max_norm=0.9)
    shortened = 0
    for layer, params in free[1].params.items():
        kernel = np.float64(params["kernel"])
        norms = np.linalg.norm(kernel, axis=0)
        shortened += (norms > 0.9).sum()
        np.testing.assert_allclose(
            states[1].params[layer]["kernel"], kernel * np.minimum(1, 0.9 / norms)[None], rtol=1e-5
        )
        np.testing.assert_array_equal(states[1].params[layer]["bias"], params["bias"])
    assert shortened


def test_clip_value_cuts_each_element(base, images):
    """With plain descent a step is at most rate times limit."""
    rate = base.optimizer.learning_rate
    *_, free = run(base, images)
    *_, states = run(base, images, regularisation__clip_value=0.01)
    for a, b, start in zip(
        *(jax.tree.leaves(s) for s in (free[1].params, states[1].params, free[0].params)), strict=True
    ):
        gradient = (np.float64(start) - np.float64(a)) / rate
        np.testing.assert_allclose(b, start - rate * np.clip(gradient, -0.01, 0.01), rtol=1e-4, atol=1e-6)


def test_the_average_of_the_parameters_is_what_an_evaluation_takes(base, images):
    step, values, batch, states = run(base, images, steps=3, regularisation__ema_decay=0.75)
    *_, free = run(base, images, steps=3)
    average = jax.tree.map(np.float64, free[0].params)
    for state in free[1:]:
        average = jax.tree.map(lambda a, w: 0.75 * a + 0.25 * np.float64(w), average, state.params)
    jax.tree.map(np.testing.assert_array_equal, free[3].params, states[3].params)  # training itself does not change
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), states[3].average["exponential"], average
    )
    _, logits = forward(average, batch.inputs)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), np.asarray(batch.targets)]
    np.testing.assert_allclose(step.measure(states[3], values, batch)["loss"], loss.sum(), rtol=1e-4)


@pytest.mark.parametrize("clip_norm", [None, 1e3])
def test_sharpness_aware_steps_take_the_gradient_uphill(clip_norm, base, images):
    """Foret et al. 2021, algorithm 1: w <- w - eta g(w + rho g / |g|)."""
    rate, rho = base.optimizer.learning_rate, 0.3
    clipping = {} if clip_norm is None else {"regularisation__clip_norm": clip_norm}
    step, _, batch, plain = run(base, images)
    start = plain[0].params
    gradient = jax.tree.map(lambda a, b: (np.float64(a) - np.float64(b)) / rate, start, plain[1].params)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    uphill = jax.tree.map(lambda w, g: jnp.float32(w + rho * g / norm), start, gradient)
    there = step.train(plain[0]._replace(params=uphill), {}, batch, {}, jnp.int32(0)).params
    expected = jax.tree.map(lambda w, up, new: w - (np.float64(up) - np.float64(new)), start, uphill, there)
    *_, states = run(base, images, regularisation__sam_radius=rho, **clipping)
    for ours, other, free in zip(
        *(jax.tree.leaves(tree) for tree in (states[1].params, expected, plain[1].params)), strict=True
    ):
        np.testing.assert_allclose(ours, other, rtol=1e-3, atol=1e-5)
        assert np.abs(ours - free).max() > 1e-4


def test_what_is_off_is_not_in_the_program(base, images):
    _, _, _, states = run(base, images)
    assert states[0].average == {}
