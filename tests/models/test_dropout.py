"""Dropout: rates, scaling, what is drawn and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.dropout import Dropout


def drop(x, rate, key, *, train=True):
    return Dropout().apply({}, x, rate, train=train, rngs={"dropout": key})


def random_operations(function, *arguments):
    text = str(jax.make_jaxpr(function)(*arguments))
    return [name for name in ("random_bits", "threefry2x32") if name in text]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1e-3, 0.123456789])
def test_realised_rate_and_scale(rate):
    size = 200_001  # odd: the last random word serves one element
    y = np.asarray(jax.jit(drop)(jnp.ones(size), rate, jax.random.key(3)))
    standard_error = (rate * (1 - rate) / size) ** 0.5
    # Five standard errors: a right implementation fails with probability 6e-7.
    assert abs((y == 0).mean() - rate) < 5 * standard_error + 2**-17
    realised = 1 - round(rate * 2**16) / 2**16
    np.testing.assert_allclose(np.unique(y), [0, 1 / realised], rtol=1e-6)


def test_elements_are_independent_of_each_other():
    kept = np.asarray(drop(jnp.ones(100_000), 0.5, jax.random.key(0))) > 0
    halves = kept.reshape(2, -1)  # the two halves of a random word
    correlations = [np.corrcoef(kept[:-1], kept[1:])[0, 1], np.corrcoef(halves[0], halves[1])[0, 1]]
    np.testing.assert_allclose(correlations, 0, atol=5 / 50_000**0.5)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0, True), (0.5, False)])
def test_off_draws_nothing_and_returns_its_input(rate, train):
    x = jnp.arange(6.0)
    assert random_operations(lambda x: Dropout().apply({}, x, rate, train=train), x) == []
    # No stream is given, so that drawing would raise.
    assert Dropout().apply({}, x, rate, train=train) is x


def test_on_draws():
    assert random_operations(lambda x, r, k: drop(x, r, k), jnp.ones(4), 0.5, jax.random.key(0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_traced_zero_returns_its_input_bit_for_bit(dtype):
    values = np.random.default_rng(0).normal(size=999) * 10.0 ** np.random.default_rng(1).integers(-30, 30, 999)
    x = jnp.asarray(np.concatenate([values, [0.0, -0.0, np.inf]]), dtype)
    y = jax.jit(drop)(x, 0.0, jax.random.key(0))
    assert np.asarray(y).tobytes() == np.asarray(x).tobytes()


def test_one_compilation_for_every_rate():
    traces = []

    @jax.jit
    def apply(x, rate, key):
        traces.append(None)
        return drop(x, rate, key)

    zeros = [int((apply(jnp.ones(1000), rate, jax.random.key(0)) == 0).sum()) for rate in (0.0, 0.1, 0.5, 0.9)]
    assert len(traces) == 1
    assert zeros == sorted(set(zeros))


def test_traced_rate_equals_static_rate():
    x, key = jnp.arange(1.0, 100.0), jax.random.key(5)
    np.testing.assert_array_equal(jax.jit(drop)(x, 0.3, key), jax.jit(lambda x, key: drop(x, 0.3, key))(x, key))


def test_same_key_same_mask_other_key_other_mask():
    x = jnp.ones(64)
    first, again, other = (np.asarray(drop(x, 0.5, jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_vmapped_lanes_are_solo_runs():
    x, keys, rates = jnp.ones((3, 64)), jax.random.split(jax.random.key(0), 3), jnp.array([0.0, 0.5, 0.5])
    together = np.asarray(jax.jit(jax.vmap(drop))(x, rates, keys))
    for lane in range(3):
        np.testing.assert_array_equal(together[lane], drop(x[lane], rates[lane], keys[lane]))
    assert (together[1] != together[2]).any()


def test_gradient_is_the_scaled_mask():
    x, key = jnp.arange(1.0, 51.0), jax.random.key(0)
    gradient = jax.grad(lambda x: drop(x, 0.5, key).sum())(x)
    np.testing.assert_allclose(gradient, drop(x, 0.5, key) / x, rtol=1e-6)


def test_rate_that_rounds_to_one_stays_finite():
    assert np.isfinite(np.asarray(jax.jit(drop)(jnp.ones(1000), 0.9999999, jax.random.key(0)))).all()
