"""Lanczos finds the extreme eigenvalues of a Hessian, of every family, and bounds its own error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import models
from models import rnn, seq2seq, transformer
from tests.models.families import FAMILIES, IMAGES, QUICKLY, SENTENCES, TEXT, TRANSLATION, inputs_of
from train.curvature import Tridiagonal, extremes, hessian_product, lanczos


def spectrum_of(matrix, key, iterations):
    product = jax.jit(lambda v: {"a": matrix[:3] @ jnp.concatenate([v["a"], v["b"]]), "b": matrix[3:] @ ravel(v)})
    like = {"a": jnp.zeros(3), "b": jnp.zeros(len(matrix) - 3)}
    return extremes(lanczos(product, like, jax.random.key(key), iterations=iterations))


def ravel(tree):
    return jnp.concatenate([tree["a"], tree["b"]])


def symmetric(eigenvalues, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return jnp.asarray((basis * np.asarray(eigenvalues)) @ basis.T, jnp.float32)


def test_extremes_of_a_known_spectrum():
    found = spectrum_of(symmetric([*np.linspace(-1, 1, 38), 5.0, -3.0]), 0, 40)
    assert found.top == pytest.approx(5, rel=1e-5)
    assert found.bottom == pytest.approx(-3, rel=1e-5)
    assert found.error < 1e-4


def test_the_error_bounds_the_distance_when_there_are_too_few_iterations():
    values = np.linspace(-1, 1, 60)
    for iterations in (3, 6, 12):
        found = spectrum_of(symmetric(values), 1, iterations)
        assert found.error > 1e-4
        assert np.abs(values - found.top).min() <= found.error + 1e-6
        assert -1 - 1e-6 <= found.bottom < found.top <= 1 + 1e-6  # from within


def test_lanczos_beats_power_iteration_with_as_many_products():
    matrix = symmetric(np.linspace(0.5, 1, 60))
    found, v = spectrum_of(matrix, 2, 12), jax.random.normal(jax.random.key(2), (60,))
    for _ in range(12):
        v = matrix @ (v / jnp.linalg.norm(v))
    power = float(jnp.linalg.norm(v))
    assert 1 - found.top < 0.2 * (1 - power)


@pytest.mark.parametrize(
    ("values", "top", "bottom"),
    [([-2.0] * 10, -2, -2), ([0.0] * 10, 0, 0), ([0.0] * 9 + [4.0], 4, 0), ([-1.0] * 5 + [-3.0] * 5, -1, -3)],
)
def test_few_distinct_eigenvalues_end_the_process_early(values, top, bottom):
    found = spectrum_of(symmetric(values), 3, 8)
    assert (found.top, found.bottom) == (pytest.approx(top, abs=1e-5), pytest.approx(bottom, abs=1e-5))
    assert found.error < 1e-4


def test_a_loss_that_is_not_finite_has_no_curvature():
    found = extremes(Tridiagonal(np.array([1.0, np.nan]), np.array([1.0, 1.0])))
    assert np.isnan(found).all()


@pytest.mark.slow
def test_a_real_network_against_its_whole_hessian():
    """To 1e-4 of what numpy finds of the Hessian as jax.hessian has it."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"in": jax.random.normal(keys[0], (6, 8)) / 2, "out": jax.random.normal(keys[1], (8, 3)) / 2}
    x, y = jax.random.normal(keys[2], (20, 6)), jax.random.randint(keys[3], (20,), 0, 3)

    def loss(params):
        logits = jnp.tanh(x @ params["in"]) @ params["out"]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(20), y])

    flat, unravel = ravel_pytree(params)
    expected = np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat), np.float64))
    product = hessian_product(jax.grad(loss), params)
    matrix = jax.jit(lambda key: lanczos(product, params, key, iterations=40))(jax.random.key(7))
    found = extremes(matrix)
    assert found.top == pytest.approx(expected[-1], rel=1e-4)
    assert found.bottom == pytest.approx(expected[0], rel=1e-4)
    assert found.error < 1e-4 * expected[-1]


MORE = {
    "bidirectional": (rnn.Config(width=16, embedding=8, bidirectional=True), SENTENCES),
    "gru": (rnn.Config(width=16, embedding=8, cell="gru"), TEXT),
    "vanilla": (rnn.Config(width=16, embedding=8, cell="vanilla"), TEXT),
    "seq2seq_additive": (seq2seq.Config(width=16, embedding=8, attention="additive"), TRANSLATION),
    "scanned": (
        transformer.Config(width=32, heads=4, feedforward=64, scan_layers=True, remat=True, activation="swiglu"),
        TEXT,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_the_product_with_the_hessian_of_every_family(family):
    """Against the difference of the gradients on both sides, in float64 and with the machine code that training has."""
    config, shapes = (FAMILIES | MORE)[family]
    with jax.enable_x64(True):
        model, inputs = models.build(config, shapes), inputs_of(shapes)
        if shapes == IMAGES:
            inputs = inputs.astype(jnp.float64)
        variables = dict(model.init(jax.random.key(2), inputs))
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables.pop("params"))
        batch_stats = variables.get("batch_stats", {})

        def loss(params):
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, _ = model.apply(variables, inputs, train=True, rngs={}, hyperparameters={})
            return jnp.mean(jnp.sin(outputs) * jnp.cos(0.3 * outputs))

        flat, unravel = ravel_pytree(params)
        v = jax.random.normal(jax.random.key(3), flat.shape, jnp.float64)
        gradient = jax.jit(
            lambda flat: ravel_pytree(jax.grad(lambda flat: loss(unravel(flat)))(flat))[0], compiler_options=QUICKLY
        )
        product = jax.jit(hessian_product(jax.grad(loss), params), compiler_options=QUICKLY)
        ours = ravel_pytree(product(unravel(v)))[0]
        step = 1e-6
        difference = np.asarray(gradient(flat + step * v) - gradient(flat - step * v)) / (2 * step)
        ours = np.asarray(ours)
    np.testing.assert_allclose(ours, difference, rtol=1e-4, atol=1e-5 * np.abs(difference).max())
