"""Machine code for convolutions and pooling, against the forms for other processors and a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import convolution, direct, direct_pooling, engines, native, patches, pooling
from models.layers.patches import Geometry

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def draw(seed, shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def loop(x, kernel, geometry):
    """The definition, one output after another, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    (height, width), (kernel_height, kernel_width) = x.shape[1:3], kernel.shape[:2]
    rows, columns = geometry.out_size((height, width), (kernel_height, kernel_width))
    y = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for row, column, i, j in np.ndindex(rows, columns, kernel_height, kernel_width):
        h = row * geometry.strides[0] + i * geometry.dilation[0] - geometry.pads[0][0]
        w = column * geometry.strides[1] + j * geometry.dilation[1] - geometry.pads[1][0]
        if 0 <= h < height and 0 <= w < width:
            y[:, row, column] += x[:, h, w] @ kernel[i, j]
    return y


def assert_close(found, expected, dtype):
    assert found.dtype == np.dtype(dtype)
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(scale, 1e-30) * 4)


def all_three(form, x, kernel, g, geometry):
    return jax.jit(
        lambda x, kernel, g: (
            form.value(x, kernel, geometry),
            form.input_gradient(g, kernel, x.shape[1:3], geometry),
            form.kernel_gradient(x, g, kernel.shape, geometry),
        )
    )(x, kernel, g)


@st.composite
def problems(draw):
    """Sizes, strides, zeros (or cropping) and dilation that leave an output."""
    while True:
        size = draw(st.tuples(st.integers(1, 9), st.integers(1, 15)))
        kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        geometry = Geometry(
            draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            draw(st.tuples(*[st.tuples(st.integers(-1, 3), st.integers(-1, 3))] * 2)),
            draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        )
        fits = all(
            n + sum(pad) > d * (k - 1) and n > max(0, -pad[0]) + max(0, -pad[1])
            for n, k, pad, d in zip(size, kernel, geometry.pads, geometry.dilation, strict=True)
        )
        if fits:
            return size, kernel, geometry


@settings(max_examples=10, deadline=None)
@given(problems(), st.integers(1, 3), st.sampled_from([1, 2, 3, 5, 6]), st.sampled_from(["float32", "float64"]))
def test_values_are_those_of_the_definition(problem, batch, multiples, dtype):
    size, kernel_size, geometry = problem
    with jax.enable_x64(True):
        lanes = engines.vector_bytes() // np.dtype(dtype).itemsize
        channels, features = batch + 1, multiples * lanes
        x = draw(0, (batch, *size, channels), dtype)
        kernel = draw(1, (*kernel_size, channels, features), dtype)
        found = jax.jit(lambda x, kernel: direct.value(x, kernel, geometry))(x, kernel)
        assert_close(found, loop(x, kernel, geometry), dtype)


@settings(max_examples=10, deadline=None)
@given(problems(), st.integers(1, 3), st.sampled_from([1, 2, 3, 5]), st.sampled_from(["float32", "float64"]))
def test_gradients_are_those_of_the_patches(problem, batch, multiples, dtype):
    size, kernel_size, geometry = problem
    with jax.enable_x64(True):
        channels = features = multiples * engines.vector_bytes() // np.dtype(dtype).itemsize
        x, kernel = draw(0, (batch, *size, channels), dtype), draw(1, (*kernel_size, channels, features), dtype)
        g = draw(2, (batch, *geometry.out_size(size, kernel_size), features), dtype)
        for found, expected in zip(
            all_three(direct, x, kernel, g, geometry), all_three(patches, x, kernel, g, geometry), strict=True
        ):
            assert_close(found, expected, dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("kernel_size", [(3, 3), (5, 5), (1, 4), (11, 11)])
def test_gradient_of_the_kernel_for_any_number_of_channels(channels, kernel_size):
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    features = 3 * engines.vector_bytes() // 4
    x, kernel = draw(0, (2, 12, 13, channels)), draw(1, (*kernel_size, channels, features))
    y, transpose = jax.vjp(lambda kernel: patches.value(x, kernel, geometry), kernel)
    g = draw(2, y.shape)
    found = jax.jit(lambda x, g: direct.kernel_gradient(x, g, kernel.shape, geometry))(x, g)
    assert_close(found, transpose(g)[0], "float32")


def test_long_sums_stay_exact():
    """The gradient of a kernel adds up 100,000 products: in parts, so that rounding does not add up with them."""
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    x, g = draw(0, (64, 40, 40, 2)), draw(1, (64, 40, 40, 8))
    found = jax.jit(lambda x, g: direct.kernel_gradient(x, g, (3, 3, 2, 8), geometry))(x, g)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    axes, wide = ([0, 1, 2], [0, 1, 2]), np.asarray(g, np.float64)
    exact = [[np.tensordot(padded[:, i : i + 40, j : j + 40], wide, axes) for j in range(3)] for i in range(3)]
    assert np.abs(found - np.array(exact)).max() < 2e-6 * np.abs(exact).max()


def test_it_is_used_and_its_absence_is_survived(monkeypatch):
    def program():
        return jax.jit(convolution.convolve).lower(draw(0, (2, 6, 6, 3)), draw(1, (3, 3, 3, 16))).as_text()

    assert "paribus_" in program()
    monkeypatch.setattr(engines, "llvm", lambda: None)
    jax.clear_caches()
    assert "paribus_" not in program()
    jax.clear_caches()


def test_lanes_and_devices_call_it_at_once():
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    x, kernel = draw(0, (3, 2, 7, 7, 4)), draw(1, (3, 3, 3, 4, 16))
    together = jax.jit(jax.vmap(lambda x, kernel: direct.value(x, kernel, geometry)))(x, kernel)
    for lane in range(3):
        np.testing.assert_array_equal(
            together[lane], jax.jit(lambda x, kernel: direct.value(x, kernel, geometry))(x[lane], kernel[lane])
        )


def test_a_program_from_the_cache_still_finds_it():
    """A name is that of the code, so equal shapes share a function and a stored program calls the same one."""
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    x, kernel = draw(0, (1, 5, 5, 2)), draw(1, (3, 3, 2, 16))

    def call(x, kernel):
        return direct.value(x, kernel, geometry)

    before = engines.targets()
    first = jax.jit(call)(x, kernel)
    count = len(engines.targets())
    jax.clear_caches()
    np.testing.assert_array_equal(jax.jit(call)(x, kernel), first)
    assert len(engines.targets()) == count <= len(before) + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("side", "width"), [(1, 1), (2, 2), (3, 3), (1, 2)])
@pytest.mark.parametrize("size", [(6, 6), (7, 11), (3, 4)])
def test_maxima_of_windows_are_bit_for_bit_those_of_the_other_form(size, side, width, dtype):
    """Small integers, so that many elements of a window are equal."""
    with jax.enable_x64(True):
        channels = 3 * engines.vector_bytes() // np.dtype(dtype).itemsize
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.integers(-2, 3, (4, *size, channels)), dtype)
        windows = pooling._Windows((side, width), (side, width), ((0, 0), (0, 0)))
        g = draw(1, (4, *windows.count(size), channels), dtype)
        value = jax.jit(lambda x: direct_pooling.value(x, (side, width)))(x)
        np.testing.assert_array_equal(value, pooling._max(windows, x))
        gradient = jax.jit(lambda x, g: direct_pooling.gradient(x, g, (side, width)))(x, g)
        np.testing.assert_array_equal(gradient, pooling._max_gradient(windows, x, g))


def test_the_maximum_of_a_window_with_nan_is_nan():
    x = draw(0, (1, 4, 4, 16)).at[0, 1, 2, 3].set(jnp.nan)
    value = jax.jit(lambda x: direct_pooling.value(x, (2, 2)))(x)
    assert np.argwhere(np.isnan(value)).tolist() == [[0, 0, 1, 3]]
    program = jax.jit(jax.grad(lambda x: pooling.max_pool(x).sum())).lower(x).as_text()
    assert "paribus_" in program


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "inputs", "multiple"), [(1, 1, 1), (7, 5, 2), (64, 13, 3), (131, 49, 4), (1024, 48, 6)]
)
def test_transposed_product_is_the_product(rows, inputs, multiple, dtype):
    with jax.enable_x64(True):
        x = draw(0, (rows, inputs), dtype)
        g = draw(1, (rows, multiple * engines.vector_bytes() // np.dtype(dtype).itemsize), dtype)
        expected = np.asarray(x, np.float64).T @ np.asarray(g, np.float64)
        assert_close(jax.jit(direct.transposed_product)(x, g), expected, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("features", [100, 77])
def test_features_that_do_not_fill_vectors_are_filled_with_zeros(features):
    """Many features: machine code with some zeros; the result is that of the patches."""
    geometry = Geometry((1, 1), ((1, 0), (0, 2)), (1, 1))
    x, kernel, size = draw(0, (2, 1, 9, 100)), draw(1, (2, 3, 100, features)), (1, 9)
    g = draw(2, (2, *geometry.out_size(size, (2, 3)), features))
    assert "paribus_" in jax.jit(convolution.convolve).lower(x[:, 0], kernel[0]).as_text()
    strided = Geometry((1, 2), geometry.pads, (1, 1))
    half = g[:, :, ::2]
    for found, expected in (
        (convolution._value(x, kernel, geometry), patches.value(x, kernel, geometry)),
        (convolution._input_gradient(x, kernel, half, strided), patches.input_gradient(half, kernel, size, strided)),
        (convolution._kernel_gradient(x, kernel, g, geometry), patches.kernel_gradient(x, g, kernel.shape, geometry)),
    ):
        assert_close(found, np.asarray(expected), "float32")


@pytest.mark.parametrize("features", [1.0, 1.3, 2.0, 3.6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maxima_over_time_are_those_of_the_slow_form(features, dtype):
    with jax.enable_x64(True):
        lanes = engines.vector_bytes() // np.dtype(dtype).itemsize
        x = jnp.round(2 * draw(0, (3, 9, int(features * lanes)), dtype))  # with equal elements
        g = draw(1, (3, x.shape[-1]), dtype)
        assert direct_pooling.fits_over_time(x)
        y, pull = jax.vjp(pooling._first_maximum, x)
        np.testing.assert_array_equal(jax.jit(direct_pooling.over_time)(x), y)
        np.testing.assert_array_equal(jax.jit(direct_pooling.over_time_gradient)(x, g), pull(g)[0])
        lanes_of = jax.vmap(jax.vmap(direct_pooling.over_time))(jnp.stack([x, 2 * x])[None])
        np.testing.assert_array_equal(lanes_of[0], jnp.stack([y, 2 * y]))
        assert bool(jnp.isnan(direct_pooling.over_time(x.at[1, 4, 0].set(jnp.nan))[1, 0]))


def test_few_features_and_long_sequences_take_the_slow_form():
    lanes = engines.vector_bytes() // 4
    assert not direct_pooling.fits_over_time(jnp.zeros((2, 5, lanes - 1)))
    assert not direct_pooling.fits_over_time(jnp.zeros((2, direct_pooling.LONGEST + 1, lanes)))
    assert not direct_pooling.fits_over_time(jnp.zeros((2, 5, lanes), jnp.bfloat16))
