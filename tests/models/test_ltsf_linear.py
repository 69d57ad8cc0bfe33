"""Linear forecasts against loops in NumPy; parameter counts and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, ltsf_linear

SERIES = Shapes(inputs=(11, 3), vocabulary=None, outputs=12, per_position=False)


def prepared(config):
    model = build(config, SERIES)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 11, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    outputs, _ = model.apply(variables, x, train=False, rngs={}, hyperparameters={})
    return variables["params"], np.asarray(x), np.asarray(outputs).reshape(5, 4, 3)


def test_linear_maps_time_alike_in_every_channel():
    params, x, found = prepared(ltsf_linear.Config())
    kernel, bias = (np.asarray(params["linear"][name]) for name in ("kernel", "bias"))
    for channel in range(3):
        np.testing.assert_allclose(found[:, :, channel], x[:, :, channel] @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("size", [1, 5, 25])
def test_dlinear_maps_the_moving_average_and_the_rest(size):
    params, x, found = prepared(ltsf_linear.Config(decomposition="moving_average", kernel_size=size))
    average = np.zeros_like(x)
    for row in range(11):
        for offset in range(-(size // 2), size // 2 + 1):
            average[:, row] += x[:, min(max(row + offset, 0), 10)] / size
    expected = 0
    for name, part in (("trend", average), ("remainder", x - average)):
        kernel, bias = (np.asarray(params[name][each]) for each in ("kernel", "bias"))
        expected = expected + np.einsum("btc,th->bhc", part, kernel) + bias[:, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_parameters_and_where_they_begin():
    params, _, _ = prepared(ltsf_linear.Config(decomposition="moving_average"))
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == 2 * (11 * 4 + 4)
    assert all(np.abs(leaf).max() <= 11**-0.5 for leaf in leaves)
    assert max(np.abs(leaf).max() for leaf in leaves) > 0.8 * 11**-0.5


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"inputs": (11,), "vocabulary": 5}, "tokens"),
        ({"inputs": (4, 4, 1)}, "series"),
        ({"outputs": 13}, "mlp gives any number"),
    ],
)
def test_refuses_what_it_cannot_take(change, word):
    shapes = Shapes(**({"inputs": (11, 3), "vocabulary": None, "outputs": 12, "per_position": False} | change))
    with pytest.raises(BadInput, match=word):
        build(ltsf_linear.Config(), shapes)


def test_an_average_has_a_middle():
    with pytest.raises(BadInput, match="odd"):
        ltsf_linear.Config(kernel_size=4)
