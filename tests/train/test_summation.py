"""Long sums against float64, and counts beyond what a float32 can count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from train import summation


@functools.partial(jax.jit, static_argnames="plain")
def summed(terms, plain=False):
    def body(index, total):
        return total + terms[index] if plain else summation.add(total, terms[index])

    zero = jnp.zeros(terms.shape[1:], terms.dtype)
    return jax.lax.fori_loop(0, terms.shape[0], body, zero if plain else summation.zero(zero.shape, zero.dtype))


def exact(total):
    return np.asarray(total.value, np.float64) + np.asarray(total.rest, np.float64)


def test_a_long_sum_is_that_of_float64_where_float32_has_lost_three_digits():
    terms = np.random.default_rng(0).exponential(size=(2_000_000, 2)).astype(np.float32)
    expected = terms.astype(np.float64).sum(0)
    np.testing.assert_allclose(exact(summed(terms)), expected, rtol=1e-12)
    assert np.all(np.abs(np.asarray(summed(terms, plain=True)) - expected) > 1e-6 * expected)


def test_counts_stay_exact_beyond_what_float32_counts():
    @jax.jit
    def count(start, each, times):
        first = summation.add(summation.zero((), jnp.float32), start)
        return jax.lax.fori_loop(0, times, lambda _, total: summation.add(total, each), first)

    # From 1e10 on, whose neighbour is 1,024 away, a float32 never moves by 250.
    assert exact(count(jnp.float32(1e10), jnp.float32(250), 300_001)) == 1e10 + 250 * 300_001
    assert exact(count(jnp.float32(2.0**24), jnp.float32(1), 99_999)) == 2**24 + 99_999


def test_terms_that_cancel_leave_the_small_ones():
    terms = np.array([1e8, 1.25, -1e8, 3e-5, 1e6, -1e6], np.float32)
    np.testing.assert_allclose(exact(summed(terms)), terms.astype(np.float64).sum(), rtol=1e-7)


def test_what_is_not_finite_stays_so():
    for terms, expected in (([1, np.inf, 2], np.inf), ([np.inf, -np.inf], np.nan), ([1, np.nan, 2], np.nan)):
        np.testing.assert_equal(exact(summed(np.array(terms, np.float32))), expected)
    np.testing.assert_equal(exact(summed(np.array([-3e38, -3e38, 1], np.float32))), -np.inf)


def test_integers_add_up():
    assert exact(summed(np.array([2, 3, 5], np.int32))) == 10
