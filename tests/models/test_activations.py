"""Activations against closed forms in float64 and against jax's own gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from models import BadInput
from models.layers.activations import activation

X = np.concatenate([np.linspace(-6, 6, 121), [-30.0, 30.0]])


def _gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


REFERENCES = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": _gelu_tanh,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_values(name):
    with jax.enable_x64(True):
        np.testing.assert_allclose(activation(name)(jnp.asarray(X)), REFERENCES[name](X), rtol=1e-10, atol=1e-13)
    single = activation(name)(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(single, REFERENCES[name](X), rtol=1e-5, atol=1e-6)


def test_gradient_of_gelu():
    with jax.enable_x64(True):
        slope = jax.vmap(jax.grad(activation("gelu")))(jnp.asarray(X))
        np.testing.assert_allclose(slope, special.ndtr(X) + X * stats.norm.pdf(X), rtol=1e-10, atol=1e-13)


def test_gradient_of_gelu_tanh():
    """The hand-written gradient, against jax's of the same formula."""
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        slow = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=True)))(x)
        np.testing.assert_allclose(jax.vmap(jax.grad(activation("gelu_tanh")))(x), slow, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("name", "gate"), [("swiglu", lambda x: x / (1 + np.exp(-x))), ("geglu", REFERENCES["gelu"])])
def test_gated(name, gate):
    """Shazeer 2020, equation 5: the first half gates the second."""
    x = np.random.default_rng(0).normal(size=(5, 3, 8)) * 3
    expected = gate(x[..., :4]) * x[..., 4:]
    with jax.enable_x64(True):
        np.testing.assert_allclose(activation(name)(jnp.asarray(x)), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(activation(name)(jnp.asarray(x, "float32")), expected, rtol=1e-5, atol=1e-5)


def test_unknown_name_is_bad_input():
    with pytest.raises(BadInput, match="did you mean 'gelu_tanh'"):
        activation("gelu_tan")
