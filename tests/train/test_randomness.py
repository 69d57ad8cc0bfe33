"""Named random streams: pure functions, which the order of use and other streams leave alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import randomness

NAMES = ("init", "order", "dropout", "augment")


def bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_stream_is_a_pure_function_of_seed_name_and_step():
    def draw(order):
        root = randomness.root(7)
        return {name: bits(randomness.at(randomness.stream(root, name), 3)) for name in order}

    assert draw(NAMES) == draw(reversed(NAMES))
    assert draw(NAMES[:1])["init"] == draw(NAMES)["init"]


def test_seeds_names_and_steps_all_give_other_keys():
    keys = [
        bits(randomness.at(randomness.stream(randomness.root(seed), name), step))
        for seed, name, step in itertools.product(range(3), NAMES, range(5))
    ]
    assert len(set(keys)) == len(keys)


def test_numbers_of_different_streams_do_not_correlate():
    root = randomness.root(0)
    draws = np.stack([jax.random.normal(randomness.stream(root, name), (4000,)) for name in NAMES])
    np.testing.assert_allclose(np.corrcoef(draws), np.eye(len(NAMES)), atol=0.06)  # 4 / sqrt(4000)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_traced_and_python_seeds_and_steps_agree(seed):
    def key(seed, step):
        return jax.random.key_data(randomness.at(randomness.stream(randomness.root(seed), "order"), step))

    np.testing.assert_array_equal(jax.jit(key)(jnp.uint32(seed), jnp.int32(5)), key(jnp.uint32(seed), 5))


def test_streams_are_the_ones_that_were_published():
    """Records name a seed; the numbers that it stands for must not move between versions."""
    assert bits(randomness.root(1)) == (0, 1)
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 0xC674E474), 2)  # crc32 of "init"
    assert bits(randomness.at(randomness.stream(randomness.root(1), "init"), 2)) == bits(expected)
