"""Winograd's convolution as machine code, against its slow twin, the other forms and a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import convolution, direct_winograd, engines, native, patches, winograd
from models.layers.patches import Geometry
from tests.models.test_direct import assert_close, draw, loop

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")


@st.composite
def problems(draw):
    """Sizes and zeros (or cropping) that leave an output."""
    while True:
        size = draw(st.tuples(st.integers(3, 11), st.integers(3, 15)))
        pads = draw(st.tuples(*[st.tuples(st.integers(-2, 4), st.integers(-2, 4))] * 2))
        if all(n + sum(pad) > 2 and n > max(0, -pad[0]) + max(0, -pad[1]) for n, pad in zip(size, pads, strict=True)):
            return size, pads


def both(form, x, kernel, g, pads):
    return jax.jit(lambda x, kernel, g: (form.value(x, kernel, pads), form.kernel_gradient(x, g, pads)))(x, kernel, g)


def problem(size, pads, batch, channels, features, dtype="float32"):
    """Images, kernel and the gradient of the outputs."""
    lanes = engines.vector_bytes() // np.dtype(dtype).itemsize
    x, kernel = (
        draw(0, (batch, *size, channels * lanes), dtype),
        draw(1, (3, 3, channels * lanes, features * lanes), dtype),
    )
    out = tuple(n + sum(pad) - 2 for n, pad in zip(size, pads, strict=True))
    return x, kernel, draw(2, (batch, *out, features * lanes), dtype)


@settings(max_examples=12, deadline=None)
@given(
    problems(), st.integers(1, 3), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3, 5]),
    st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_definition(sizes, batch, channels, features, dtype):
    (size, pads), once = sizes, (1, 1)
    with jax.enable_x64(True):
        x, kernel, g = problem(size, pads, batch, channels, features, dtype)
        value, gradient = both(direct_winograd, x, kernel, g, pads)
        assert_close(value, loop(x, kernel, Geometry(once, pads, once)), dtype)
        wide = Geometry(once, pads, once)
        assert_close(gradient, patches.kernel_gradient(x, g, kernel.shape, wide), dtype)


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (19, 9)])
def test_it_agrees_with_its_slow_twin(size):
    pads = ((1, 1), (1, 1))
    x, kernel, g = problem(size, pads, 3, 2, 3)
    for found, expected in zip(
        both(direct_winograd, x, kernel, g, pads), both(winograd, x, kernel, g, pads), strict=True
    ):
        assert_close(found, expected, "float32")


@pytest.mark.parametrize("least", [1, 3, 5, 8])
def test_images_wider_than_a_block_are_cut(least, monkeypatch):
    """Columns and rows of tiles that blocks do not divide."""
    monkeypatch.setattr(direct_winograd, "BLOCK_BYTES", 1)
    monkeypatch.setattr(direct_winograd, "LEAST_TILES", least)
    pads = ((1, 1), (1, 1))
    x, kernel, g = problem((13, 15), pads, 2, 1, 2)
    blocks = direct_winograd._blocks((13, 15), 1)
    assert sum(block.tiles * block.times for block in blocks) == 7 * 8
    assert max(block.tiles for block in blocks) <= least
    monkeypatch.setattr(native, "_TARGETS", {})
    value, gradient = both(direct_winograd, x, kernel, g, pads)
    assert_close(value, loop(x, kernel, Geometry((1, 1), pads, (1, 1))), "float32")
    assert_close(gradient, both(winograd, x, kernel, g, pads)[1], "float32")


def test_long_sums_stay_exact():
    """The gradient of a kernel adds up 100,000 products: in parts, so that rounding does not add up with them."""
    pads = ((1, 1), (1, 1))
    x, g = draw(0, (64, 40, 40, 16)), draw(1, (64, 40, 40, 16))
    found = jax.jit(lambda x, g: direct_winograd.kernel_gradient(x, g, pads))(x, g)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    axes, wide = ([0, 1, 2], [0, 1, 2]), np.asarray(g, np.float64)
    exact = [[np.tensordot(padded[:, i : i + 40, j : j + 40], wide, axes) for j in range(3)] for i in range(3)]
    assert np.abs(found - np.array(exact)).max() < 2e-6 * np.abs(exact).max()


def test_it_is_used_by_every_pass_and_lane():
    x, kernel, _ = problem((6, 6), ((1, 1), (1, 1)), 2, 1, 1)

    def loss(x, kernel):
        return jnp.sum(jnp.square(convolution.convolve(x, kernel)))

    gradients = jax.grad(loss, argnums=(0, 1))
    assert jax.jit(gradients).lower(x, kernel).as_text().count("@paribus_") == 3
    lanes = jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel + 1])
    together = jax.jit(jax.vmap(gradients))(*lanes)
    for lane in range(2):
        alone = jax.jit(gradients)(*(array[lane] for array in lanes))
        jax.tree.map(lambda all_, one: np.testing.assert_array_equal(all_[lane], one), together, alone)  # noqa: B023
