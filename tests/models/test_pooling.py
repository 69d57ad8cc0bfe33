"""Pooling against XLA's reduce_window, PyTorch and hand-made ties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.layers.pooling import average_pool, global_average_pool, max_over_time, max_pool


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def reduce_window(x, window):
    shape = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradient(form, x, g, window):
    y, backward = jax.vjp(lambda x: form(x, window), x)
    return y, backward(g)[0]


SIZES = [((4, 6), 2), ((5, 7), 2), ((9, 10), 3), ((3, 3), 3), ((4, 5), 1)]


@pytest.mark.parametrize(("size", "window"), SIZES)
@pytest.mark.parametrize("tied", [False, True])
def test_matches_reduce_window(size, window, tied):
    x = draw(0, 2, *size, 3)
    x = jnp.round(x) if tied else x
    g = draw(1, 2, size[0] // window, size[1] // window, 3)
    for mine, expected in zip(
        value_and_gradient(max_pool, x, g, window), value_and_gradient(reduce_window, x, g, window), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


def test_ties_go_to_the_first_maximum():
    x = jnp.array([[0.0, 2.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]]).reshape(1, 2, 4, 1)
    gradient = jax.grad(lambda x: (max_pool(x) * jnp.array([5.0, 7.0]).reshape(1, 1, 2, 1)).sum())(x)
    np.testing.assert_array_equal(gradient.reshape(2, 4), [[0, 5, 7, 0], [0, 0, 0, 0]])


def test_every_gradient_arrives_when_inputs_are_computed_in_the_same_program():
    """Inputs that are a multiply-add in the same program: each window passes its gradient on, whole and once."""
    x, scale, shift = draw(0, 8, 12, 12, 16), draw(1, 8, 12, 12, 16), draw(2, 8, 12, 12, 16)
    gradient = jax.jit(jax.grad(lambda shift: max_pool(x * scale + shift).sum()))(shift)
    np.testing.assert_array_equal(gradient.reshape(8, 6, 2, 6, 2, 16).sum((2, 4)), 1.0)


def test_equal_elements_that_are_computed_in_the_same_program_share_nothing():
    """All elements of a window are one multiply-add of equal numbers: the first one gets all of the gradient."""
    x, scale, shift = (jnp.full((4, 12, 12, 16), value) for value in (0.1, 0.7, 0.3))
    gradient = jax.jit(jax.grad(lambda shift: max_pool(x * scale + shift).sum()))(shift)
    expected = np.zeros((4, 6, 2, 6, 2, 16))
    expected[:, :, 0, :, 0] = 1
    np.testing.assert_array_equal(gradient, expected.reshape(4, 12, 12, 16))


OVERLAPPING = [  # size, window, stride, pads
    ((8, 9), 3, 2, ((1, 1), (1, 1))),
    ((7, 6), 3, 2, ((0, 0), (0, 0))),
    ((9, 8), 3, 1, ((1, 1), (1, 1))),
    ((9, 8), 2, 3, ((0, 0), (0, 0))),
    ((7, 7), 2, 2, ((1, 1), (1, 1))),
    ((6, 7), 4, 3, ((2, 1), (0, 2))),
]


@pytest.mark.parametrize(("size", "window", "stride", "pads"), OVERLAPPING)
@pytest.mark.parametrize("tied", [False, True])
def test_overlapping_maxima_match_reduce_window(size, window, stride, pads, tied):
    def reference(x, window):
        shape, steps = (1, window, window, 1), (1, stride, stride, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, shape, steps, ((0, 0), *pads, (0, 0)))

    with jax.enable_x64(True):  # no rounding in the sums of gradients
        x = draw(0, 2, *size, 3)
        x = jnp.round(x) if tied else x
        g = jnp.round(8 * draw(1, *reference(x, window).shape))
        mine = value_and_gradient(lambda x, window: max_pool(x, window, stride, pads), x, g, window)
        for value, expected in zip(mine, value_and_gradient(reference, x, g, window), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("size", "window", "stride", "pads"),
    [*((size, window, window, ((0, 0), (0, 0))) for size, window in SIZES), *OVERLAPPING[:5]],
)
def test_averages_match_torch(size, window, stride, pads):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        x = draw(0, 2, *size, 3)
        tensor = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
        reference = torch.nn.functional.avg_pool2d(tensor, window, stride, padding=pads[0][0], count_include_pad=False)
        g = np.random.default_rng(1).normal(size=reference.shape)
        reference.backward(torch.tensor(g))
        y, gradient = value_and_gradient(
            lambda x, window: average_pool(x, window, stride, pads), x, jnp.asarray(g.transpose(0, 2, 3, 1)), window
        )
        np.testing.assert_allclose(y.transpose(0, 3, 1, 2), reference.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient.transpose(0, 3, 1, 2), tensor.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_global_average_in_16_bits_sums_in_32():
    x = jnp.full((1, 64, 64, 2), 1.0, jnp.bfloat16)  # a sum in 16 bits would stop at 256
    assert global_average_pool(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(global_average_pool(x), jnp.ones((1, 2), jnp.bfloat16))


@pytest.mark.reference
def test_maxima_over_time_match_torch():
    torch = pytest.importorskip("torch")
    x = jnp.round(draw(0, 3, 7, 5))
    y, pull = jax.vjp(max_over_time, x)
    tensor = torch.tensor(np.asarray(x).transpose(0, 2, 1).copy(), requires_grad=True)
    reference = torch.nn.functional.max_pool1d(tensor, 7)[..., 0]
    g = draw(1, 3, 5)
    reference.backward(torch.tensor(np.array(g)))
    np.testing.assert_array_equal(y, reference.detach().numpy())
    np.testing.assert_array_equal(pull(g)[0].transpose(0, 2, 1), tensor.grad.numpy())


def test_maxima_over_time_see_the_mask_only():
    x, lengths = draw(0, 3, 7, 5), np.array([1, 4, 7])
    mask = jnp.asarray(np.arange(7)[None] < lengths[:, None])
    y = max_over_time(x, mask)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(y[row], x[row, :length].max(0))
    disturbed = jnp.where(mask[:, :, None], x, jnp.nan)
    np.testing.assert_array_equal(max_over_time(disturbed, mask), y)
    gradient = jax.grad(lambda x: max_over_time(x, mask).sum())(x)
    np.testing.assert_array_equal(jnp.where(mask[:, :, None], 0, gradient), 0)
    np.testing.assert_array_equal(gradient.sum(1), 1)


@pytest.mark.parametrize(("window", "pads"), [(9, ((0, 0), (0, 0))), (2, ((2, 0), (0, 0)))])
def test_windows_that_do_not_fit_are_refused(window, pads):
    with pytest.raises(ValueError, match="do not fit"):
        max_pool(draw(0, 1, 8, 8, 1), window, None, pads)
    with pytest.raises(ValueError, match="do not fit"):
        average_pool(draw(0, 1, 8, 1), window, None, pads[:1])


@pytest.mark.parametrize("shape", [(1, 8), (1, 2, 8, 8, 1)])
def test_what_is_neither_an_image_nor_a_sequence_is_refused(shape):
    with pytest.raises(ValueError, match="one or two axes"):
        max_pool(draw(0, *shape))
    with pytest.raises(ValueError, match="one or two axes"):
        max_pool(draw(0, 1, 8, 1), 2, None, ((0, 0), (0, 0)))


@pytest.mark.reference
@pytest.mark.parametrize(
    ("time", "window", "stride", "pad"), [(8, 2, 2, 0), (11, 3, 3, 0), (9, 3, 2, 1), (10, 2, 3, 0), (7, 4, 1, 2)]
)
def test_windows_of_sequences_match_torch(time, window, stride, pad):
    """With 16 channels, so that machine code serves the maxima where windows lie side by side; with ties."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    functional = torch.nn.functional
    x = jnp.round(2 * draw(0, 3, time, 16))
    theirs = {
        max_pool: lambda x: functional.max_pool1d(x, window, stride, pad),
        average_pool: lambda x: functional.avg_pool1d(x, window, stride, pad, count_include_pad=False),
    }
    for form, reference in theirs.items():
        tensor = torch.tensor(np.asarray(x).transpose(0, 2, 1).copy(), requires_grad=True)
        expected = reference(tensor)
        g = np.random.default_rng(1).integers(-8, 9, expected.shape).astype(np.float32)
        expected.backward(torch.tensor(g))
        y, gradient = value_and_gradient(
            lambda x, window, form=form: form(x, window, stride, ((pad, pad),)),
            x,
            jnp.asarray(g.transpose(0, 2, 1)),
            window,
        )
        np.testing.assert_allclose(y.transpose(0, 2, 1), expected.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(gradient.transpose(0, 2, 1), tensor.grad.numpy(), rtol=1e-6, atol=1e-6)


def test_vmap_is_a_loop():
    x, g = draw(0, 3, 2, 5, 4, 2), draw(1, 3, 2, 2, 2, 2)
    together = jax.jit(jax.vmap(lambda x, g: value_and_gradient(max_pool, x, g, 2)))(x, g)
    for lane in range(3):
        for mine, expected in zip(together, value_and_gradient(reduce_window, x[lane], g[lane], 2), strict=True):
            np.testing.assert_array_equal(mine[lane], expected)


@pytest.mark.reference
@pytest.mark.parametrize(("size", "window"), SIZES)
def test_matches_torch_with_ties(size, window):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x = jnp.maximum(jnp.round(draw(0, 2, *size, 3)), 0.0)
    g = draw(1, 2, size[0] // window, size[1] // window, 3)
    y, gradient = value_and_gradient(max_pool, x, g, window)
    tensor = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    reference = torch.nn.functional.max_pool2d(tensor, window)
    reference.backward(torch.tensor(np.asarray(g).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(np.asarray(y).transpose(0, 3, 1, 2), reference.detach().numpy())
    np.testing.assert_array_equal(np.asarray(gradient).transpose(0, 3, 1, 2), tensor.grad.numpy())
