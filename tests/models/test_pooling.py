"""Max pooling against XLA's reduce_window, PyTorch and hand-made ties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.layers.pooling import max_pool


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def reduce_window(x, window):
    shape = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradient(form, x, g, window):
    y, backward = jax.vjp(lambda x: form(x, window), x)
    return y, backward(g)[0]


SIZES = [((4, 6), 2), ((5, 7), 2), ((9, 10), 3), ((3, 3), 3), ((4, 5), 1)]


@pytest.mark.parametrize(("size", "window"), SIZES)
@pytest.mark.parametrize("tied", [False, True])
def test_matches_reduce_window(size, window, tied):
    x = draw(0, 2, *size, 3)
    x = jnp.round(x) if tied else x
    g = draw(1, 2, size[0] // window, size[1] // window, 3)
    for mine, expected in zip(
        value_and_gradient(max_pool, x, g, window), value_and_gradient(reduce_window, x, g, window), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


def test_ties_go_to_the_first_maximum():
    x = jnp.array([[0.0, 2.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]]).reshape(1, 2, 4, 1)
    gradient = jax.grad(lambda x: (max_pool(x) * jnp.array([5.0, 7.0]).reshape(1, 1, 2, 1)).sum())(x)
    np.testing.assert_array_equal(gradient.reshape(2, 4), [[0, 5, 7, 0], [0, 0, 0, 0]])


def test_every_gradient_arrives_when_inputs_are_computed_in_the_same_program():
    """Inputs that are a multiply-add in the same program: each window passes its gradient on, whole and once."""
    x, scale, shift = draw(0, 8, 12, 12, 16), draw(1, 8, 12, 12, 16), draw(2, 8, 12, 12, 16)
    gradient = jax.jit(jax.grad(lambda shift: max_pool(x * scale + shift).sum()))(shift)
    np.testing.assert_array_equal(gradient.reshape(8, 6, 2, 6, 2, 16).sum((2, 4)), 1.0)


def test_vmap_is_a_loop():
    x, g = draw(0, 3, 2, 5, 4, 2), draw(1, 3, 2, 2, 2, 2)
    together = jax.jit(jax.vmap(lambda x, g: value_and_gradient(max_pool, x, g, 2)))(x, g)
    for lane in range(3):
        for mine, expected in zip(together, value_and_gradient(reduce_window, x[lane], g[lane], 2), strict=True):
            np.testing.assert_array_equal(mine[lane], expected)


@pytest.mark.reference
@pytest.mark.parametrize(("size", "window"), SIZES)
def test_matches_torch_with_ties(size, window):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x = jnp.maximum(jnp.round(draw(0, 2, *size, 3)), 0.0)
    g = draw(1, 2, size[0] // window, size[1] // window, 3)
    y, gradient = value_and_gradient(max_pool, x, g, window)
    tensor = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    reference = torch.nn.functional.max_pool2d(tensor, window)
    reference.backward(torch.tensor(np.asarray(g).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(np.asarray(y).transpose(0, 3, 1, 2), reference.detach().numpy())
    np.testing.assert_array_equal(np.asarray(gradient).transpose(0, 3, 1, 2), tensor.grad.numpy())
