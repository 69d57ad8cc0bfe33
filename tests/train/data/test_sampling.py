import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import BadInput
from train.data.sampling import ShuffledExamples, Windows

EXAMPLES = {
    "inputs": np.arange(23 * 6, dtype=np.float32).reshape(23, 3, 2, 1),
    "targets": np.arange(23, dtype=np.int32),
}
TOKENS = {"tokens": np.arange(101, dtype=np.int32)}
CASES = [(ShuffledExamples(), EXAMPLES), (Windows(7), TOKENS)]
cases = pytest.mark.parametrize(("sampler", "arrays"), CASES, ids=["shuffled", "windows"])


@functools.cache
def compiled(sampler, batch_size):
    """``order`` and ``draw``, compiled once for all the tests."""
    return tuple(jax.jit(functools.partial(method, batch_size=batch_size)) for method in (sampler.order, sampler.draw))


def drawn(sampler, arrays, key, steps, *, batch_size, first=0):
    """Indices of ``steps`` batches drawn in sequence from ``first`` on, with an order that is found once an epoch."""
    find, draw = compiled(sampler, batch_size)
    order, indices = find(arrays, key, jnp.int32(first)), []
    for step in range(first, first + steps):
        if step % sampler.epoch_steps(arrays, batch_size=batch_size) == 0:
            order = find(arrays, key, jnp.int32(step))
        indices.append(np.asarray(draw(order, arrays, key, jnp.int32(step))))
    return np.stack(indices)


@cases
@pytest.mark.parametrize("batch_size", [4, 23])
def test_drawing_resumes_anywhere(sampler, arrays, batch_size):
    key = jax.random.key(3)
    whole = drawn(sampler, arrays, key, 14, batch_size=batch_size)
    for first in range(14):
        rest = drawn(sampler, arrays, key, 14 - first, batch_size=batch_size, first=first)
        np.testing.assert_array_equal(rest, whole[first:])


def test_an_epoch_is_a_permutation_and_the_next_is_another():
    indices = drawn(ShuffledExamples(), EXAMPLES, jax.random.key(0), 10, batch_size=5)  # 4 whole batches an epoch
    first, second = indices[:4].ravel(), indices[4:8].ravel()
    assert len(set(first)) == len(set(second)) == 20
    assert not np.array_equal(first, second)
    whole = drawn(ShuffledExamples(), EXAMPLES, jax.random.key(0), 1, batch_size=23)
    np.testing.assert_array_equal(np.sort(whole[0]), np.arange(23))


def test_epoch_order_is_the_documented_function_of_key_and_epoch():
    key = jax.random.key(9)
    indices = drawn(ShuffledExamples(), EXAMPLES, key, 6, batch_size=11)
    for epoch in range(3):
        expected = jax.random.permutation(jax.random.fold_in(key, epoch), 23)[:22]
        np.testing.assert_array_equal(indices[2 * epoch : 2 * epoch + 2].ravel(), expected)


@cases
def test_keys_differ_and_equal_keys_agree(sampler, arrays):
    one = drawn(sampler, arrays, jax.random.key(1), 5, batch_size=4)
    again = drawn(sampler, arrays, jax.random.PRNGKey(1), 5, batch_size=4)  # the same key in its raw form
    other = drawn(sampler, arrays, jax.random.key(2), 5, batch_size=4)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.slow
@cases
def test_lanes_inside_a_loop_draw_what_each_draws_alone(sampler, arrays):
    steps, batch_size = 9, 4

    def lane(arrays, key):
        def body(step, seen):
            order = sampler.order(arrays, key, step, batch_size=batch_size)
            return seen.at[step].set(sampler.draw(order, arrays, key, step, batch_size=batch_size))

        return jax.lax.fori_loop(0, steps, body, jnp.zeros((steps, batch_size), jnp.int32))

    keys = jax.random.split(jax.random.key(5), 2)
    alone = np.stack([drawn(sampler, arrays, key, steps, batch_size=batch_size) for key in keys])
    np.testing.assert_array_equal(jax.jit(jax.vmap(lane, in_axes=(None, 0)))(arrays, keys), alone)
    mapped = jax.jit(lambda arrays, keys: jax.lax.map(functools.partial(lane, arrays), keys))(arrays, keys)
    np.testing.assert_array_equal(mapped, alone)


def test_gather_examples():
    indices = np.array([22, 0, 5, 5])
    batch = jax.jit(ShuffledExamples().gather)(EXAMPLES, jnp.asarray(indices))
    np.testing.assert_array_equal(batch.inputs, EXAMPLES["inputs"][indices])
    np.testing.assert_array_equal(batch.targets, indices)
    np.testing.assert_array_equal(batch.weights, np.ones(4, np.float32))
    assert (batch.targets.dtype, batch.weights.dtype) == (np.int32, np.float32)


def test_gather_windows():
    starts = np.array([0, 93, 40])
    batch = jax.jit(Windows(7).gather)(TOKENS, jnp.asarray(starts))
    np.testing.assert_array_equal(batch.inputs, [range(start, start + 7) for start in starts])
    np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
    assert batch.weights.shape == (3, 7)
    assert np.all(batch.weights == 1)


def test_windows_start_everywhere_and_only_where_they_fit():
    arrays = {"tokens": np.arange(12, dtype=np.int32)}
    indices = drawn(Windows(8), arrays, jax.random.key(0), 40, batch_size=8)
    counts = np.bincount(indices.ravel(), minlength=4)
    assert counts.size == 4
    # 320 draws of 4 places: 80 each; 5 standard deviations are 39
    assert np.all(np.abs(counts - 80) < 39)


def evaluated(sampler, arrays, batch_size):
    """Inputs and targets of weight 1 that an evaluation sees, in order, as lists."""
    evaluate = jax.jit(sampler.evaluation_batch)
    seen = []
    for first in range(0, sampler.evaluation_size(arrays), batch_size):
        batch = evaluate(arrays, jnp.arange(first, first + batch_size, dtype=jnp.int32))
        weights = np.asarray(batch.weights)
        assert set(np.unique(weights)) <= {0.0, 1.0}
        seen += list(zip(np.asarray(batch.inputs)[weights == 1], np.asarray(batch.targets)[weights == 1], strict=True))
    return seen


@settings(max_examples=25)
@given(size=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_evaluation_sees_every_example_once(size, batch_size):
    arrays = {"inputs": 2 * np.arange(size, dtype=np.float32)[:, None], "targets": np.arange(size, dtype=np.int32)}
    seen = evaluated(ShuffledExamples(), arrays, batch_size)
    assert [(float(x[0]), int(y)) for x, y in seen] == [(2.0 * i, i) for i in range(size)]


@pytest.mark.slow
@settings(max_examples=40)
@given(size=st.integers(2, 60), length=st.integers(1, 20), batch_size=st.integers(1, 12))
def test_evaluation_predicts_every_token_but_the_first_once(size, length, batch_size):
    tokens = np.random.default_rng(size).integers(0, 1000, size).astype(np.int32)
    seen = evaluated(Windows(length), {"tokens": tokens}, batch_size)
    assert [(int(x), int(y)) for x, y in seen] == [(int(tokens[i]), int(tokens[i + 1])) for i in range(size - 1)]


def test_evaluation_past_the_end_has_no_weight_even_far_past_it():
    for sampler, arrays in CASES:
        past = jnp.array([sampler.evaluation_size(arrays), 2**31 - 1], jnp.int32)
        batch = sampler.evaluation_batch(arrays, past)
        assert not np.any(batch.weights)


def test_check():
    ShuffledExamples().check(EXAMPLES, batch_size=23)
    with pytest.raises(BadInput, match=r"batch_size=24 must be at most 23"):
        ShuffledExamples().check(EXAMPLES, batch_size=24)
    Windows(100).check(TOKENS, batch_size=500)
    with pytest.raises(BadInput, match=r"context of 101 must be shorter than the training split of 101"):
        Windows(101).check(TOKENS, batch_size=1)
