"""Random bits by machine code against jax's own generator, bit for bit, and the authors' known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import direct_random, native, partitioning
from train import randomness

pytestmark = pytest.mark.skipif(not native.is_available(), reason="llvmlite has no compiler for this processor")

SEEDS = st.integers(0, 2**32 - 1)


def pair(seed):
    """The same key for jax's own generator and for machine code."""
    return jax.random.key(np.uint32(seed)), jax.random.key(np.uint32(seed), impl=direct_random._NATIVE)


def same(draw, seed):
    """Whether both draw the same bits, compiled and not."""
    own, ours = pair(seed)
    for form in (draw, jax.jit(draw)):
        expected, found = np.asarray(form(own)), np.asarray(form(ours))
        assert (found.shape, found.dtype, found.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())


@settings(max_examples=20)
@given(SEEDS, st.lists(st.integers(1, 9), max_size=3), st.sampled_from(["uint8", "uint16", "uint32"]))
def test_bits_are_those_of_jax(seed, shape, dtype):
    same(lambda key: jax.random.bits(key, tuple(shape), dtype), seed)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 4096, 100_003])
def test_any_number_of_them(count):
    same(lambda key: jax.random.bits(key, (count,)), 7)


@settings(max_examples=20)
@given(SEEDS, SEEDS)
def test_folding_in_is_that_of_jax(seed, data):
    same(lambda key: jax.random.key_data(jax.random.fold_in(key, np.uint32(data))), seed)


@pytest.mark.parametrize("shape", [1, 2, 5, 33, (2, 3)])
def test_splitting_is_that_of_jax(shape):
    same(lambda key: jax.random.key_data(jax.random.split(key, shape)), 2**31)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.normal(key, (33, 5)),
        lambda key: jax.random.permutation(key, 1000),
        lambda key: jax.random.bernoulli(key, 0.3, (7, 64)),
        lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (12,)),
        lambda key: jax.vmap(lambda each: jax.random.uniform(each, (6,)))(jax.random.split(key, 4)),
        lambda key: jax.lax.map(lambda step: jax.random.uniform(jax.random.fold_in(key, step), (3,)), jnp.arange(5)),
    ],
)
def test_what_is_made_of_the_bits(draw):
    same(draw, 3)


def test_the_authors_known_answer():
    """Random123's ``kat_vectors``: threefry2x32 with 20 rounds, key 0 and count 0."""
    key = jax.random.key_data(jax.random.fold_in(pair(0)[1], np.uint32(0)))
    assert [f"{word:08x}" for word in np.asarray(key)] == ["6b200159", "99ba4efe"]


def test_where_it_is_used():
    assert jax.random.key_impl(randomness.root(1)) == jax.random.key_impl(pair(1)[1])
    with partitioning.partitioned(partitioning.Axes(("data",), 2)):
        assert jax.random.key_impl(randomness.root(1)) == jax.random.key_impl(pair(1)[0])
