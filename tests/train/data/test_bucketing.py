"""Batches of similar length: what is drawn, in which width, and that every example counts once."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import BadInput
from models.inputs import Pair
from train.data.bucketing import BucketedExamples, best_widths, by_bucket, padded
from train.data.task import BucketedSampler, Sampler

WIDTHS = (3, 5, 9)


def made(lengths, widths=WIDTHS):
    """A split of sentences of these lengths; example i of the sorted ones holds i + 1 in every real place."""
    order, ends = by_bucket(np.asarray(lengths), widths)
    sequences = [[place + 1] * int(np.asarray(lengths)[index]) for place, index in enumerate(order)]
    return {
        "inputs": padded(sequences, widths[-1]),
        "targets": np.arange(len(sequences), dtype=np.int32),
        "ends": ends,
    }


LENGTHS = np.random.default_rng(0).integers(1, 10, 37)
SPLIT = made(LENGTHS)
SAMPLER = BucketedExamples(tuple((width,) for width in WIDTHS))


@functools.cache
def compiled(batch_size):
    """(indices, bucket) of a step."""

    def step(key, step):
        order = SAMPLER.order(SPLIT, key, step, batch_size=batch_size)
        indices = SAMPLER.draw(order, SPLIT, key, step, batch_size=batch_size)
        return indices, SAMPLER.bucket(order, SPLIT, step, batch_size=batch_size)

    return jax.jit(step)


def drawn(seed, steps, *, batch_size, first=0):
    return raw_drawn(jax.random.key(seed), range(first, first + steps), batch_size)


def test_it_is_a_bucketed_sampler():
    assert isinstance(SAMPLER, Sampler)
    assert isinstance(SAMPLER, BucketedSampler)
    assert SAMPLER.buckets == 3


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), buckets=st.integers(1, 4))
def test_best_widths_pad_the_least_that_is_possible(lengths, buckets):
    def positions(widths):
        return sum(min(width for width in widths if width >= length) for length in lengths)

    most = max(lengths)
    found = best_widths(np.array(lengths), buckets)
    every = [(*lower, most) for count in range(buckets) for lower in itertools.combinations(range(1, most), count)]
    assert positions(found) == min(map(positions, every))
    assert len(found) <= buckets
    assert list(found) == sorted(set(found))


def test_examples_are_sorted_by_bucket_and_stay_in_order_inside():
    order, ends = by_bucket(np.array([9, 1, 4, 3, 5, 2]), (3, 5, 9))
    assert order.tolist() == [1, 3, 5, 2, 4, 0]
    assert ends.tolist() == [3, 5, 6]


def test_padded_is_a_loop_over_places():
    sequences = [[5, 6, 7, 8], [], [9]]
    values, mask = padded(sequences, 3)
    for row, sequence in enumerate(sequences):
        for place in range(3):
            assert mask[row, place] == (place < len(sequence))
            assert values[row, place] == (sequence[place] if place < len(sequence) else 0)


@pytest.mark.parametrize("batch_size", [4, 5, 37])
def test_drawing_resumes_anywhere(batch_size):
    whole = drawn(3, 22, batch_size=batch_size)
    for first in (1, 9, 17):
        assert drawn(3, 22 - first, batch_size=batch_size, first=first) == whole[first:]


@pytest.mark.parametrize("batch_size", [4, 5, 37])
def test_an_epoch_takes_every_example_once_but_for_the_remainder(batch_size):
    batches = 37 // batch_size
    left_out = []
    for epoch in range(4):
        taken = [
            index for batch, _ in drawn(1, batches, batch_size=batch_size, first=epoch * batches) for index in batch
        ]
        assert len(taken) == len(set(taken)) == batches * batch_size
        left_out.append(frozenset(range(37)) - set(taken))
    if 37 % batch_size:
        assert len(set(left_out)) > 1


def test_what_an_epoch_leaves_out_comes_from_all_buckets():
    bucket = np.searchsorted(WIDTHS, SPLIT["inputs"].mask.sum(1))
    steps = drawn(0, 7 * 40, batch_size=5)  # 37 - 35: two are left out in each of 40 epochs
    taken = np.bincount([index for indices, _ in steps for index in indices], minlength=37)
    assert taken.sum() == 7 * 40 * 5
    for each in range(3):
        assert np.any(taken[bucket == each] < 40)


def test_a_batch_is_as_wide_as_its_longest_example_needs():
    lengths = SPLIT["inputs"].mask.sum(1)
    seen = set()
    for indices, bucket in drawn(2, 36, batch_size=4):
        longest = int(lengths[indices].max())
        assert bucket == np.searchsorted(WIDTHS, longest)
        seen.add(bucket)
        batch = SAMPLER.gather(SPLIT, jnp.asarray(indices))
        narrow = SAMPLER.narrowed(batch, bucket)
        assert narrow.inputs.values.shape == (4, WIDTHS[bucket])
        assert int(narrow.inputs.mask.sum()) == int(batch.inputs.mask.sum())
        np.testing.assert_array_equal(narrow.targets, indices)
    assert seen == {0, 1, 2}


def test_widths_are_those_of_every_seed_and_examples_are_not():
    one, other = drawn(1, 20, batch_size=4), drawn(2, 20, batch_size=4)
    assert [bucket for _, bucket in one] == [bucket for _, bucket in other]
    assert [indices for indices, _ in one] != [indices for indices, _ in other]
    # Other epochs have another order of the widths.
    assert [bucket for _, bucket in one[:9]] != [bucket for _, bucket in one[9:18]]


def test_lanes_that_march_in_step_share_the_branch():
    """Under vmap over keys the bucket keeps no lane axis, so a switch stays a switch."""

    def lane(key):
        def body(step, total):
            order = SAMPLER.order(SPLIT, key, step, batch_size=4)
            bucket = SAMPLER.bucket(order, SPLIT, step, batch_size=4)
            indices = SAMPLER.draw(order, SPLIT, key, step, batch_size=4)
            widths = [functools.partial(lambda number, i: jnp.sum(i) * number, number) for number in range(3)]
            return total + jax.lax.switch(bucket, widths, indices)

        return jax.lax.fori_loop(0, 12, body, jnp.int32(0))

    keys = jax.random.split(jax.random.key(0), 3)
    program = str(jax.make_jaxpr(jax.vmap(lane))(keys))
    assert program.count("cond[") == 1  # not select_n of all branches
    expected = [sum(bucket * sum(indices) for indices, bucket in raw_drawn(key, range(12), 4)) for key in keys]
    np.testing.assert_array_equal(jax.jit(jax.vmap(lane))(keys), expected)


def raw_drawn(key, steps, batch_size):
    found = [compiled(batch_size)(key, jnp.int32(step)) for step in steps]
    return [(np.asarray(indices).tolist(), int(bucket)) for indices, bucket in found]


@pytest.mark.parametrize("size", [1, 7, 25])
@pytest.mark.parametrize("batch_size", [1, 4, 25, 30])
def test_an_evaluation_sees_every_example_once_and_whole(size, batch_size):
    split = made(np.random.default_rng(size).integers(1, 10, size))
    evaluate = jax.jit(lambda p: (SAMPLER.evaluation_batch(split, p), SAMPLER.evaluation_bucket(split, p)))
    seen = []
    for first in range(0, SAMPLER.evaluation_size(split), batch_size):
        batch, bucket = jax.device_get(evaluate(jnp.arange(first, first + batch_size, dtype=jnp.int32)))
        narrow = SAMPLER.narrowed(batch, int(bucket))
        for values, mask, target, weight in zip(*narrow.inputs, narrow.targets, narrow.weights, strict=True):
            if weight:
                seen.append((int(target), values[mask].tolist()))
    assert seen == [(place, [place + 1] * length) for place, length in enumerate(split["inputs"].mask.sum(1))]


def test_pairs_are_cut_on_both_sides():
    sampler = BucketedExamples(((2, 3), (4, 6)))
    inputs = Pair(padded([[1, 2], [1, 2, 3, 4]], 4), padded([[1], [1, 2, 3, 4, 5, 6]], 6))
    split = {
        "inputs": inputs,
        "targets": inputs.target.values,
        "weights": inputs.target.mask.astype(np.float32),
        "ends": np.array([1, 2], np.int32),
    }
    batch = sampler.gather(split, jnp.array([0, 0]))
    narrow = sampler.narrowed(batch, 0)
    assert [part.shape for part in jax.tree.leaves(narrow)] == [(2, 2), (2, 2), (2, 3), (2, 3), (2, 3), (2, 3)]
    assert float(narrow.weights.sum()) == float(batch.weights.sum()) == 2.0


def test_a_batch_greater_than_the_split_is_refused():
    with pytest.raises(BadInput, match=r"batch_size=38 must be at most 37"):
        SAMPLER.check(SPLIT, batch_size=38)
