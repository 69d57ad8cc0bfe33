"""Positions against the equations of the papers in float64, and their properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import positions

RANDOM = np.random.default_rng(0)


def test_sinusoids():
    """Vaswani et al. 2017, section 3.5, one number at a time."""
    table = positions.sinusoidal(40, 6)
    for t, i in np.ndindex(40, 3):
        angle = t / 10_000 ** (2 * i / 6)
        np.testing.assert_allclose(table[t, 2 * i], np.sin(angle), rtol=0, atol=1e-12)
        np.testing.assert_allclose(table[t, 2 * i + 1], np.cos(angle), rtol=0, atol=1e-12)


def _matrix(t, size):
    """The rotation of Su et al. 2021, equation 15."""
    result = np.zeros((size, size))
    for i in range(size // 2):
        angle = t * 10_000 ** (-2 * i / size)
        result[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
    return result


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_rotation_is_the_papers_in_our_order_of_components(dtype, tolerance):
    x = RANDOM.normal(size=(2, 5, 3, 8))
    where = np.array([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]])
    ours = np.arange(8).reshape(2, 4).T.reshape(-1)  # the paper's component 2i + j is our i + 4j
    with jax.enable_x64(dtype == "float64"):
        rotated = np.asarray(positions.rotate(jnp.asarray(x, dtype), jnp.asarray(where, "int32")))
    assert rotated.dtype == dtype
    for b, t, h in np.ndindex(2, 5, 3):
        expected = _matrix(where[b, t], 8) @ x[b, t, h, ours]
        np.testing.assert_allclose(rotated[b, t, h, ours], expected, rtol=0, atol=tolerance)


def test_products_of_rotated_vectors_depend_on_distance_alone():
    query, key = (np.broadcast_to(RANDOM.normal(size=6), (1, 9, 1, 6)) for _ in range(2))
    with jax.enable_x64(True):
        where = jnp.arange(9)[None]
        q, k = (np.asarray(positions.rotate(jnp.asarray(x), where))[0, :, 0] for x in (query, key))
    products = q @ k.T
    for distance in range(-8, 9):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-12)
    assert np.ptp(products[0]) > 0.1  # and they do depend on it
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), np.linalg.norm(query[0, :, 0], axis=-1), rtol=1e-12)


def test_rotation_of_half_precision_is_that_of_single_rounded():
    x = jnp.asarray(RANDOM.normal(size=(1, 4, 1, 6)), "bfloat16")
    where = jnp.asarray([[1000, 1001, 1002, 1003]], "int32")
    rounded = positions.rotate(x.astype("float32"), where).astype("bfloat16")
    np.testing.assert_array_equal(positions.rotate(x, where), rounded)


def test_slopes():
    """The values that Press et al. 2022, section 3, give for 8 and 16 heads."""
    np.testing.assert_allclose(positions.slopes(8), [0.5**i for i in range(1, 9)], rtol=1e-15)
    np.testing.assert_allclose(positions.slopes(16), [0.5 ** (i / 2) for i in range(1, 17)], rtol=1e-15)
    assert (np.diff(positions.slopes(6)) < 0).all()


def test_alibi_falls_with_distance():
    """The matrix of Press et al. 2022, figure 3, and its mirror image above the diagonal."""
    bias = positions.alibi(4, jnp.asarray([[0, 1, 2], [5, 6, 7]]), 9)
    assert bias.shape == (2, 4, 3, 9)
    for b, h, t, s in np.ndindex(2, 4, 3, 9):
        np.testing.assert_allclose(bias[b, h, t, s], -(2.0 ** (-2 * (h + 1))) * abs((0, 5)[b] + t - s), rtol=1e-6)
