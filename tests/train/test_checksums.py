"""Checksums: of words and of their places, the same on the host and on devices."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from train.checksums import checksums

TYPES = (np.float32, np.int32, np.uint32, np.float16, np.int8, np.bool_)


@given(st.sampled_from(TYPES).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_side=5))))
def test_the_host_and_the_devices_find_the_same(array):
    assert checksums({"x": np.asarray(array)}) == checksums({"x": jax.device_put(array)})


def test_they_are_the_sums_that_they_are_said_to_be():
    words = np.random.default_rng(0).integers(0, 2**32, (3, 5), dtype=np.uint32)
    plain = [int(word) for word in words.ravel()]
    wanted = sum(plain) % 2**32, sum((2 * i + 1) * word for i, word in enumerate(plain)) % 2**32
    assert checksums({"x": words}) == {"x": wanted}


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])
def test_arrays_of_several_parts(size):
    array = np.random.default_rng(1).normal(size=size).astype(np.float32)
    assert checksums({"x": array}) == checksums({"x": jax.device_put(array)})


@pytest.mark.parametrize(
    "change", [lambda x: x.view(np.uint32).__setitem__(3, 7), lambda x: x.__setitem__([0, 1], x[[1, 0]])]
)
def test_another_bit_or_another_order_is_another_sum(change):
    array = np.random.default_rng(2).normal(size=9).astype(np.float32)
    before = checksums({"x": array})
    change(array)
    assert checksums({"x": array}) != before
